"""Split and label as directories of a Hive path, `split=test/label=pos`: written, and read back.

A plain reader guesses the types of partition values. `label_fits_in_path` allows only labels in the path that DuckDB,
Polars, pandas and pyarrow read back unchanged; others (numbers, dates, `true`) become an ordinary column. A split is
always in the path: a split called `2024` is read as a number unless the reader is given the type (DuckDB `hive_types`,
Polars `hive_schema`, pyarrow `partitioning`). Polars detects partitions in a directory
(`scan_parquet("STORE/tokens")`), but in a glob only with `hive_partitioning=True`.
"""

from collections.abc import Iterable, Iterator
from pathlib import PurePath
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc

from attnstore.errors import StoreError

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
MAX_NAME_BYTES = 255  # of one path component, on every file system in common use

#: With more labels than this, `label` is an ordinary column: a directory for each would split every part into tiny
#: files.
MAX_LABEL_PARTITIONS = 50

#: Words that some reader takes for a number, a boolean, a date or a missing value.
_GUESSED_WORDS = frozenset({"true", "false", "nan", "inf", "infinity", "epoch", "null", "none", "na"})


def label_fits_in_path(labels: Iterable[str | None]) -> bool:
    """Whether every label can stand in a directory's name and be read back as itself by any plain reader.

    `labels`: all gold labels the data may have; None (no label) is allowed beside others. False means that
    `label` has to be an ordinary column (`Manifest.label_in_path`). That is so when there are more than
    `MAX_LABEL_PARTITIONS` of them; when there is none at all (pyarrow can't tell the type of a partition
    that is always null); when two differ only in case (one directory on some file systems); when one is
    too long for a directory's name, percent-encoded; and when one is empty or does not begin with a letter,
    or is a word like `true` or `inf`, because readers turn such values into numbers, dates and truth values,
    each in its own way.
    """
    names = {label for label in labels if label is not None}
    return (
        0 < len(names) <= MAX_LABEL_PARTITIONS
        and len({name.casefold() for name in names}) == len(names)
        and all(_reads_back(name) for name in names)
    )


def _reads_back(label: str) -> bool:
    try:
        size = len(_partition("label", label))
    except UnicodeEncodeError:  # a lone surrogate: no file name, and no Arrow string either
        return False
    return label[:1].isalpha() and label.lower() not in _GUESSED_WORDS and size <= MAX_NAME_BYTES


def _partition(key: str, value: str | None) -> str:
    """One directory of a Hive path. Everything but letters, digits and `_.-~` is percent-encoded UTF-8."""
    return f"{key}={NULL_PARTITION if value is None else quote(value, safe='')}"


def partitions_of(table: pa.Table, label_in_path: bool) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each (split, label), in order of first occurrence, with the directory they belong in."""
    keys = ["split", "label"] if label_in_path else ["split"]
    texts = {key: table[key].cast(pa.string()).combine_chunks() for key in keys}
    pairs = pa.table(texts).group_by(keys, use_threads=False).aggregate([]).to_pylist()
    for pair in pairs:
        directory = "/".join(_partition(key, pair[key]) for key in keys)
        if too_long := [key for key in keys if len(_partition(key, pair[key])) > MAX_NAME_BYTES]:
            raise StoreError(f"the {too_long[0]} {pair[too_long[0]]!r} is too long for a directory's name")
        if len(pairs) == 1:
            yield directory, table
            continue
        mask = None
        for key in keys:
            value = pair[key]
            same = pc.is_null(texts[key]) if value is None else pc.equal(texts[key], value).fill_null(False)
            mask = same if mask is None else pc.and_(mask, same)
        yield directory, table.filter(mask)


def keys_of(directory: PurePath) -> tuple[str, str | None]:
    """(split, label) of a directory's path inside the store; the label is None, too, if not in the path.

    The path is parsed here, because DuckDB and Polars would take every `name=value` in it for a partition, even above
    the store (`runs/lr=3e-5/imdb.attn`).
    """
    pairs = (part.partition("=") for part in directory.parts)
    keys = {key: None if text == NULL_PARTITION else unquote(text) for key, sign, text in pairs if sign}
    return keys["split"] or "", keys.get("label")
