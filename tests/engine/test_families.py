"""The facts about each architecture agree with transformers, and every family meets the common requirements."""

import re
from pathlib import Path

import pytest
import tiny
import transformers

from attnstore.config import RunConfig, SourceConfig
from attnstore.data.documents import Document
from attnstore.engine.batches import plan_batches, tokenise
from attnstore.engine.families import BEHIND_PADDING, usable_positions
from attnstore.engine.loading import load_classifier
from attnstore.engine.reductions import resolve_reductions
from attnstore.errors import ModelError, UsageError


def load(folder: Path, max_length: int | None) -> object:
    config = RunConfig(SourceConfig(""), str(folder), dtype="float32", device="cpu", max_length=max_length)
    return load_classifier(config, resolve_reductions(["cls"]))


def run(classifier, texts):
    documents = [Document(text, str(n), None, "all", None) for n, text in enumerate(texts)]
    tokenised = list(tokenise(enumerate(documents), classifier.tokenizer, classifier.max_length))
    batches = list(plan_batches(tokenised, 10_000, padded=classifier.padded))
    return [document.length for batch in batches for document in batch.documents if classifier(batch)]


def test_the_families_with_offset_positions_are_those_of_transformers():
    """Every text encoder with a classification head whose position ids start after the padding index, and no other."""
    models = Path(transformers.__file__).parent / "models"
    found = set()
    for source in models.glob("*/modeling_*.py"):
        code = source.read_text()
        # It has its own position table with a padding index, and its own head.
        if "def create_position_ids_from_input_ids" not in code and "padding_idx + 1" not in code:
            continue
        if not re.search(r"class \w+ForSequenceClassification\(", code):
            continue
        for config in source.parent.glob("configuration_*.py"):
            if (config.stem.removeprefix("configuration_")) == source.stem.removeprefix("modeling_"):
                found |= set(re.findall(r'^    model_type = "(.+)"', config.read_text(), re.MULTILINE))
    assert found == BEHIND_PADDING


@pytest.mark.sampled(5)
@pytest.mark.slow
@pytest.mark.parametrize("family", [*tiny.ROUTED, *tiny.UNROUTED])
def test_a_document_of_the_models_limit_runs_and_a_longer_limit_is_refused(family, tmp_path):
    """The error is one line with the number of positions, never an index out of range."""
    tiny.save(tmp_path, family)
    settings = transformers.AutoConfig.from_pretrained(tmp_path)
    positions = usable_positions(settings)
    if positions is None:
        assert load(tmp_path, 200).max_length == 200
        return
    classifier = load(tmp_path, positions)
    assert positions in run(classifier, ["good " * 300, "bad"])
    with pytest.raises(
        UsageError, match=rf"--max-length {positions + 1} is more than the model's {positions} positions"
    ):
        load(tmp_path, positions + 1)


@pytest.mark.sampled(at=(1,))
@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_a_packed_batchs_filler_has_no_more_tokens_than_positions(family, tmp_path):
    """The filler of a packed batch is a document, too: with 80 positions it may not be longer."""
    tiny.save(tmp_path, family)
    classifier = load(tmp_path, 20)
    assert len(run(classifier, ["good film " * 20] * 60 + ["bad"])) == 61


def test_a_gap_in_the_class_names_is_one_line(tmp_path):
    """A model whose id2label lacks a number has a class without a name."""
    tiny.save(tmp_path, id2label={0: "neg", 2: "pos"}, label2id={"neg": 0, "pos": 2})
    with pytest.raises(ModelError, match="names the classes 0, 2 in its id2label"):
        load(tmp_path, 32)
