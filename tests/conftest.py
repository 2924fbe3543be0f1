"""What the tests share: small models, a small dataset, and a small sealed store, built once a session."""

import atexit
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before transformers is imported: tests never reach for a hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
    os.environ.pop(name, None)

# Tiny models gain nothing from threads, and busy machines lose by them. Processes that a test starts take as many:
# where torch multiplies by MKL, the last bits of a product depend on it.
os.environ["OMP_NUM_THREADS"] = "1"

# What is imported and collected stays: see `pytest_collection_finish`.
gc.disable()

# A shell starts its background jobs with Ctrl-C ignored, nohup everything with SIGHUP ignored: tests that send them
# would wait for nothing.
signal.signal(signal.SIGINT, signal.default_int_handler)
for ignored in ("SIGHUP", "SIGQUIT", "SIGTERM"):
    if hasattr(signal, ignored):
        signal.signal(getattr(signal, ignored), signal.SIG_DFL)


def _taken_as_synced(file) -> None:
    """Refuse what is no open file, as `os.fsync` does."""
    os.fstat(file if isinstance(file, int) else file.fileno())


# No test cuts the power. Those that mind what reaches the disk, and when, record the calls; the others, which write
# some ten thousand files, need not wait for it.
os.fsync = _taken_as_synced

import bucket_server  # noqa: E402 - beside it
import nursery  # noqa: E402 - beside it
import processor_time  # noqa: E402 - beside it
import sampled  # noqa: E402 - beside it
from hypothesis import settings  # noqa: E402 - beside it
from reviews import write_reviews  # noqa: E402 - beside it
from shared import shared  # noqa: E402 - beside it

# A busy machine is no fault. Each run draws other examples, so that twenty a run are soon hundreds.
settings.register_profile("untimed", deadline=None, max_examples=20)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    processor_time.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """One nursery for the workers of all cores."""
    processor_time.watch(config)
    if not hasattr(config, "workerinput"):
        attended = nursery.attended()
        attended.__enter__()
        config.add_cleanup(lambda: attended.__exit__(None, None, None))
        # The workers are forked too. Where coverage is measured they are not: what is imported before would count as
        # lines that no test reaches.
        python = nursery.interpreter()
        if (
            config.getoption("tx", None)
            and python != sys.executable
            and not config.pluginmanager.hasplugin("_cov")
        ):
            config.option.tx = [f"popen//python={python}" for _ in config.option.tx]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before `-m` chooses by markers."""
    sampled.mark_the_others(items)
    sampled.leave_out_the_exhaustive(config, items)


def pytest_collection_finish() -> None:
    """A run looks through all objects for what may go, torch's too: those that are there to stay are passed over."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    """A process that runs tests for another one is taken apart by the system, in a moment, and not by Python in three
    seconds. Where it is whole, nothing of it is to count as leaked.
    """
    atexit.register(_end if hasattr(config, "workerinput") else gc.unfreeze)


def _end() -> None:
    """Do what else is registered to be done at the end, and end."""
    atexit.unregister(_end)
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(0)


@pytest.fixture(scope="session")
def imdb_archive() -> Path:
    """The real IMDb archive."""
    return shared("data/imdb/aclImdb_v1.tar.gz")


@pytest.fixture(scope="session")
def real_model() -> Path:
    """A MiniLM fine-tuned on IMDb."""
    return shared("models/minilm-imdb")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny  # which imports transformers: the process that only hands tests out needs none of it

    return tiny.save(tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("reviews") / "reviews.csv", 60)


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, reviews: Path) -> Path:
    """A sealed store of 60 reviews in 3 parts, float32 kept in full, all built-in reductions."""
    from attnstore.config import RunConfig, SourceConfig
    from attnstore.pipeline.run import run

    path = tmp_path_factory.mktemp("stores") / "small.attn"
    config = RunConfig(
        SourceConfig(str(reviews)),
        str(tiny_model),
        device="cpu",
        dtype="float32",
        max_length=40,
        reductions=("cls", "received", "rollout", "cls_heads", "evidence"),
        part_size=25,
        full_precision=True,
    )
    run(config, path)
    return path


@pytest.fixture(scope="session")
def bucket_session() -> Iterator[bucket_server.Server]:
    with bucket_server.served() as server:
        yield server


@pytest.fixture
def bucket(bucket_session: bucket_server.Server, monkeypatch: pytest.MonkeyPatch) -> bucket_server.Server:
    """A server of S3 on this machine that this test may let fail; the environment leads to it."""
    bucket_server.lead_to(bucket_session, monkeypatch)
    bucket_session.asked.clear()
    return bucket_session
