"""Tiny random classifiers that take pairs, with the kinds of tokenizers of their families."""

from pathlib import Path

import tiny
import transformers
from transformers.convert_slow_tokenizer import bytes_to_unicode

_PIECES = sorted(
    {w.removeprefix("##") for w in tiny.WORDS} | set("abcdefghijklmnopqrstuvwxyz0123456789é!?.,日")
)
_SCORED = [(piece, -2.0 - n / 100) for n, piece in enumerate(["▁", *_PIECES, *(f"▁{p}" for p in _PIECES)])]


def _words(*specials: str) -> dict[str, int]:
    """WordPiece's vocabulary after these special tokens."""
    names = [name for name in tiny.VOCABULARY if name not in tiny.SPECIAL]
    return {name: n for n, name in enumerate([*specials, *names])}


def _unigram(*specials: str) -> list[tuple[str, float]]:
    return [*((name, 0.0) for name in specials), *_SCORED]


def _bytes() -> transformers.PreTrainedTokenizerBase:
    merges = [("i", "l"), ("f", "il"), ("fil", "m"), ("Ġ", "film"), ("o", "d"), ("o", "od"), ("g", "ood")]
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *bytes_to_unicode().values()]
    names += [a + b for a, b in merges]
    return transformers.RobertaTokenizer(vocab={name: n for n, name in enumerate(names)}, merges=merges)


def tokenizer(family: str) -> transformers.PreTrainedTokenizerBase:
    """A tokenizer of the class that the family's models use."""
    made = {
        "bert": lambda: transformers.BertTokenizer(vocab=tiny.VOCABULARY),
        "electra": lambda: transformers.BertTokenizer(vocab=tiny.VOCABULARY),
        "mobilebert": lambda: transformers.BertTokenizer(vocab=tiny.VOCABULARY),
        "megatron-bert": lambda: transformers.BertTokenizer(vocab=tiny.VOCABULARY),
        "distilbert": lambda: transformers.DistilBertTokenizer(vocab=tiny.VOCABULARY),
        "mpnet": lambda: transformers.MPNetTokenizer(vocab=_words("<s>", "<pad>", "</s>", "[UNK]", "<mask>")),
        "roberta": _bytes,
        "xlm-roberta": lambda: transformers.XLMRobertaTokenizer(
            vocab=_unigram("<s>", "<pad>", "</s>", "<unk>", "<mask>")
        ),
        "albert": lambda: transformers.AlbertTokenizer(
            vocab=_unigram("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
        ),
        "deberta-v2": lambda: transformers.DebertaV2Tokenizer(
            vocab=_unigram("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        ),
    }
    return made[family]()


def save(folder: Path, family: str, **changes: object) -> Path:
    """Save a random classifier of the family with that tokenizer as a folder."""
    own = tokenizer(family)
    sizes = {"vocab_size": len(own), "pad_token_id": own.pad_token_id, "cls_token_id": own.cls_token_id}
    tiny.save(folder, family, **(sizes | changes))
    for file in (*folder.glob("tokenizer*"), *folder.glob("special_tokens*")):
        file.unlink()
    own.save_pretrained(folder)
    return folder
