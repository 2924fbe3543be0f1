"""What the tests share: small models, a small dataset, and a small sealed store, built once a session."""

import os
import random
from pathlib import Path

import pytest

# Before transformers is imported: tests never reach for a hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
    os.environ.pop(name, None)

import tiny  # noqa: E402 - it imports transformers
import torch  # noqa: E402 - beside it

torch.set_num_threads(1)  # tiny models gain nothing from threads, and busy machines lose by them

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def imdb_archive() -> Path:
    path = SHARED / "data/imdb/aclImdb_v1.tar.gz"
    if not path.is_file():
        pytest.skip(f"the real IMDb archive is not at {path}")
    return path


@pytest.fixture(scope="session")
def real_model() -> Path:
    path = SHARED / "models/minilm-imdb"
    if not path.is_dir():
        pytest.skip(f"the fine-tuned MiniLM is not at {path}")
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("tiny-bert"))


def write_reviews(path: Path, count: int, seed: int = 0) -> Path:
    """A CSV of `count` small reviews with id, label, group and text; every tenth is empty or long."""
    generator = random.Random(seed)
    words = [w for w in tiny.WORDS if not w.startswith("##") and w.isalpha()]
    lines = ["id,label,group,text"]
    for number in range(count):
        length = {3: 0, 7: 90}.get(number % 10, generator.randint(1, 25))
        text = " ".join(generator.choices(words, k=length))
        lines.append(f"r{number},{'pos' if generator.random() < 0.5 else 'neg'},film{number % 7},{text}")
    path.write_text("\n".join(lines) + "\n")
    return path


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
        reductions=("cls", "received", "rollout", "cls_heads"),
        part_size=25,
        full_precision=True,
    )
    run(config, path)
    return path
