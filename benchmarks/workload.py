"""The benchmarks' data and models: real reviews, and models of known sizes."""

import functools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from attnstore.config import SourceConfig
from attnstore.data.documents import Document, Rejected
from attnstore.data.sources import open_source
from attnstore.embedded import MODEL, REVIEWS
from attnstore.engine.batches import TokenisedDocument, tokenise

SHARED = Path(__file__).parents[2] / "shared"
IMDB = SHARED / "data/imdb/aclImdb_v1.tar.gz"
MINILM = SHARED / "models/minilm-imdb"
SEED = 20
#: Lengths of the IMDb test reviews in tokens of BERT's uncased vocabulary, cut at 512: minimum, each 32nd, maximum.
IMDB_LENGTHS = (
    10, 70, 91, 113, 136, 147, 154, 160, 166, 172, 178, 185, 193, 201, 210, 220, 230, 242, 255, 268, 284, 302, 321, 347,
    372, 404, 441, 488, 512, 512, 512, 512, 512,
)  # fmt: skip


@functools.cache
def reviews(data: Path | None = None) -> tuple[str, tuple[Document, ...]]:
    """The IMDb test set in a fixed random order, or the embedded reviews; and their name.

    So the first n are a fixed random sample of n. `data` is another data set to read.
    """
    source, name, split = IMDB, "IMDb test reviews", "test"
    if data is not None:
        source, name, split = data, f"documents of {data.name}", "all"
    elif not IMDB.exists():
        source, name, split = REVIEWS, "embedded reviews (the IMDb archive is not there)", "all"
    found = [
        item for item in open_source(SourceConfig(str(source), split=split)) if not isinstance(item, Rejected)
    ]
    random.Random(SEED).shuffle(found)
    return name, tuple(found)


def as_tokens(
    documents: Sequence[Document], tokenizer: Any, max_length: int = 512
) -> list[TokenisedDocument]:
    return list(tokenise(enumerate(documents), tokenizer, max_length))


def of_length(
    length: int, count: int, documents: Sequence[Document], tokenizer: Any
) -> list[TokenisedDocument]:
    """`count` documents of exactly `length` tokens, made by joining the texts of documents, which are used in turn."""
    found: list[TokenisedDocument] = []
    pieces = _endlessly(documents)
    while len(found) < count:
        first = next(pieces)
        text = first.text
        while True:
            (made,) = tokenise([(len(found), replace(first, text=text))], tokenizer, length)
            if made.length == length:
                break
            text = f"{text} {next(pieces).text}"
        found.append(made)
    return found


def of_imdb_lengths(count: int, tokenizer: Any) -> tuple[Document, ...]:
    """Documents with the lengths of IMDb's test reviews, in a fixed random order.

    They are pieces of the embedded reviews, from a random token on, with alternating labels: for speed, not for
    meaning.
    """
    draw = random.Random(SEED)
    found = open_source(SourceConfig(str(REVIEWS), split="all"))
    text = " ".join(item.text for item in found if not isinstance(item, Rejected))
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)[
        "offset_mapping"
    ]
    lengths = np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(IMDB_LENGTHS)), IMDB_LENGTHS).round()
    documents = []
    for number, length in enumerate(draw.sample(lengths.astype(int).tolist(), count)):
        tokens = max(1, length - 2)  # beside [CLS] and [SEP]
        first = draw.randrange(len(spans) - tokens)
        own = text[spans[first][0] : spans[first + tokens - 1][1]]
        documents.append(Document(own, f"generated/{number}", None, "all", ("neg", "pos")[number % 2]))
    return tuple(documents)


def alike(documents: Sequence[TokenisedDocument], count: int) -> dict[str, list[TokenisedDocument]]:
    """That many documents of neighbouring lengths, around the middle of each fifth of all, by a name."""
    ordered = sorted(documents, key=lambda d: d.length)
    found = {}
    for fifth in range(5):
        start = (2 * fifth + 1) * len(ordered) // 10 - count // 2
        own = ordered[start : start + count]
        found[f"reviews of {own[0].length} to {own[-1].length} tokens"] = own
    return found


def _endlessly(documents: Sequence[Document]) -> Iterator[Document]:
    while True:
        yield from documents


def write_jsonl(documents: Sequence[Document], path: Path) -> None:
    """Texts with labels and ids, as `attnstore run` reads them."""
    with path.open("w", encoding="utf-8") as file:
        for document in documents:
            file.write(json.dumps({"id": document.id, "text": document.text, "label": document.label}) + "\n")


def model_folder(name: str, scratch: Path) -> Path:
    """The folder of `embedded`, `minilm`, `bert-base` (random weights, made in `scratch`), or of a path.

    Raises FileNotFoundError if it does not exist.
    """
    if name == "bert-base":
        folder = scratch / name
        if not folder.exists():
            _save_bert_base(folder)
        return folder
    folder = {"embedded": MODEL, "minilm": MINILM}.get(name, Path(name))
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"there is no model {name} ({folder})")
    return folder


def _save_bert_base(folder: Path) -> None:
    """A classifier of BERT-base's size with random weights: its speed is that of a trained one.

    The tokenizer is MiniLM's, which is BERT's, or the embedded model's without MiniLM.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(MINILM if MINILM.exists() else MODEL)
    torch.manual_seed(SEED)
    classes = ("neg", "pos")
    settings = transformers.BertConfig(
        id2label=dict(enumerate(classes)), label2id={name: i for i, name in enumerate(classes)}
    )
    transformers.BertForSequenceClassification(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_modernbert(folder: Path, longest: int) -> Path:
    """A small ModernBERT with random weights for documents of up to `longest` tokens; two in three layers are local."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    tokenizer.model_max_length = longest
    torch.manual_seed(SEED)
    settings = transformers.ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        intermediate_size=576,
        num_hidden_layers=6,
        num_attention_heads=6,
        max_position_embeddings=longest,
        pad_token_id=tokenizer.pad_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        id2label={0: "neg", 1: "pos"},
        label2id={"neg": 0, "pos": 1},
    )
    transformers.ModernBertForSequenceClassification(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
