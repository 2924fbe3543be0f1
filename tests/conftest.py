"""Fixtures that the tests share: small models, a small data set, and a small sealed store, built once per session."""

import atexit
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before transformers is imported: tests never contact a hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
    os.environ.pop(name, None)

# Tiny models gain nothing from threads, and busy machines lose by them. A test's child processes use one, too,
# because with MKL the last bits of a product depend on the number of threads.
os.environ["OMP_NUM_THREADS"] = "1"

# Imported and collected objects stay: see `pytest_collection_finish`.
gc.disable()

# A shell starts background jobs with Ctrl-C ignored, and nohup ignores SIGHUP: tests that send these signals
# would wait in vain.
signal.signal(signal.SIGINT, signal.default_int_handler)
for ignored in ("SIGHUP", "SIGQUIT", "SIGTERM"):
    if hasattr(signal, ignored):
        signal.signal(getattr(signal, ignored), signal.SIG_DFL)


def _taken_as_synced(file) -> None:
    """Accept any open file as synced; raise for a closed one, like `os.fsync`."""
    os.fstat(file if isinstance(file, int) else file.fileno())


# No test cuts the power. Tests about what reaches the disk, and when, record the calls. The others, which write
# some ten thousand files, need not wait for the disk.
os.fsync = _taken_as_synced

import bucket_server  # noqa: E402 - beside it
import nursery  # noqa: E402 - beside it
import processor_time  # noqa: E402 - beside it
import sampled  # noqa: E402 - beside it
from hypothesis import settings  # noqa: E402 - beside it
from reviews import write_reviews  # noqa: E402 - beside it
from shared import shared  # noqa: E402 - beside it

# A busy machine is not a fault. Each run draws other examples, so that twenty per run are soon hundreds.
settings.register_profile("untimed", deadline=None, max_examples=20)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    processor_time.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """One process from which those of all cores are forked."""
    processor_time.watch(config)
    if not hasattr(config, "workerinput"):
        attended = nursery.attended()
        attended.__enter__()
        config.add_cleanup(lambda: attended.__exit__(None, None, None))
        # The workers are forked, too, except when coverage is measured: what is imported before would count as
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
    """Runs before `-m` selects by markers."""
    sampled.mark_the_others(items)
    sampled.leave_out_the_exhaustive(config, items)


def pytest_collection_finish() -> None:
    """Exclude existing objects, torch's too, from garbage collection, which would search all of them in vain."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End a worker process through the system at once, because Python's own end takes three seconds.

    In any other process, unfreeze the objects, so that none of them counts as leaked.
    """
    atexit.register(_end if hasattr(config, "workerinput") else gc.unfreeze)


def _end() -> None:
    """Run the other functions registered for the end, and end the process."""
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
    import tiny  # imports transformers, which a process that only distributes tests does not need

    return tiny.save(tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("reviews") / "reviews.csv", 60)


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, reviews: Path) -> Path:
    """A sealed store of 60 reviews in 3 parts, in full float32, with all built-in reductions."""
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
    """A server of S3 on this machine that the test may let fail. The environment points to it."""
    bucket_server.lead_to(bucket_session, monkeypatch)
    bucket_session.asked.clear()
    return bucket_session
