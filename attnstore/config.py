"""What a run is, in full: the records that travel through the program instead of lists of options."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

#: auto, cpu, cuda, cuda:N for one of several GPUs, counted from 0, or mps for Apple's.
Device = str
#: How a document that is longer than the model reads is read; see `engine.long`.
Long = Literal["cut", "tail", "head+tail", "windows"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
OnDuplicate = Literal["refuse", "skip", "keep"]
#: What a file of rows is.
Format = Literal["csv", "tsv", "json", "jsonl", "parquet", "arrow", "excel", "lines"]

#: What a row or a text file may hold unless told otherwise.
MAX_DOCUMENT_BYTES = 16 << 20

#: What `attnstore run` reduces attention to unless told otherwise.
DEFAULT_REDUCTIONS = ("cls", "received", "rollout", "evidence")


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """A dataset and how to read it.

    `data`: a folder, an archive, a file, a glob, an address (`hf://datasets/...`, `https://...`, `s3://...`), a hub's
    name, `-` for the standard input, or the word `imdb`. `FILE::NAME` is a member of an archive, a sheet, or a
    database's table.
    `held`: data that the program holds, of which `data` is then only what it is called.
    `subset`: a configuration of a data set that has several. `query`: a SELECT to a SQLite or DuckDB file.
    `split`: the split to read, or `all`; for a source without splits, the name its one split gets.
    `text_column`: a column's name or place (from 1), or several, separated by commas, to be joined with a space.
    `pair`: the two columns of `text_column` are two texts for a model that reads both, instead of being joined.
    `keep`: columns of the data whose values go into the store's `documents`.
    `columns`: the names of a delimited file's columns, `header` whether its first row holds names; `delimiter`,
    `escape` (a character before a quote that ends nothing) and `encoding`: None to tell them from the file.
    `format`: what a file is, by any name: csv, tsv, json, jsonl, parquet, arrow, excel, or lines (a text per line).
    `limit`: take this many documents, spread evenly over the source.
    `labels`: the model's class names in the order of its logits, for a model that has none of its own; and entries
    such as `1=neg` that say which class a label of the data is (`3=`: none, its rows are left out).
    `strict`: a row that can't become a document is an error instead of being counted.
    `max_document_bytes`: a row, a text file or an element of an array with more bytes becomes no document.
    """

    data: str
    held: object | None = field(default=None, repr=False, compare=False)
    split: str = "all"
    subset: str | None = None
    query: str | None = None
    text_column: str | None = None
    pair: bool = False
    label_column: str | None = None
    id_column: str | None = None
    group_column: str | None = None
    keep: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    header: bool | None = None
    delimiter: str | None = None
    escape: str | None = None
    encoding: str | None = None
    format: Format | None = None
    labels: tuple[str, ...] = ()
    limit: int | None = None
    strict: bool = False
    max_document_bytes: int = MAX_DOCUMENT_BYTES


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything that decides what a run writes, and how it is computed.

    `long`: how documents of more than `max_length` tokens are read; `stride`: tokens from the beginning of one window
    to that of the next, None for half of what a window reads.
    `reductions`: names of built-in ones, `package.module:function` for custom ones, or the functions.
    `batch_tokens`: how many tokens a batch holds at most, None for the device's default; it changes no row.
    `part_size`: documents in a part, fixed when the store is created; None for 1,000, or as many as hold a million
    characters where documents are short, or as many as make 10,000 parts.
    `full_precision`: store every bit of the float32 values instead of rounding them to bfloat16.
    `threads`: of the processor, for each process; the last bits of a matrix product depend on it. None for those that
    the store was begun with, where the machine has as many, else for all, divided among the workers.
    `workers`: processes that compute, 1 for this one alone; with GPUs, one on each in turn.
    `worker_timeout`: seconds after which a worker that has finished no batch, or not loaded the model, is ended and
    replaced; None for half an hour to load, then ten minutes or ten times what the longest batch so far took.
    """

    source: SourceConfig
    model: str
    revision: str | None = None
    trust_remote_code: bool = False
    device: Device = "auto"
    dtype: Dtype = "auto"
    max_length: int | None = None
    long: Long = "cut"
    stride: int | None = None
    reductions: tuple[str | Callable[..., Any], ...] = field(default=DEFAULT_REDUCTIONS)
    batch_tokens: int | None = None
    part_size: int | None = None
    full_precision: bool = False
    threads: int | None = None
    workers: int = 1
    worker_timeout: int | None = None


@dataclass(frozen=True, slots=True)
class AppendConfig:
    """What `attnstore append` adds to a store, and how it is computed; all else is the store's.

    `source`: its columns are those that the run named, unless it names others, "" for one that is to be guessed; `pair`
    and `keep` are the run's.
    `on_duplicate`: what becomes of documents whose ids the store has. `refuse` ends the append, `skip` leaves out those
    that are the same there and refuses the rest, `keep` appends all.
    `model`: where the model is now, None for where the run found it. `reductions`: where functions of your own are now,
    with what else the run was asked for; none for what the store says.
    `threads`, `workers`, `worker_timeout`: as in `RunConfig`.
    """

    source: SourceConfig
    on_duplicate: OnDuplicate = "refuse"
    model: str | None = None
    trust_remote_code: bool = False
    device: Device = "auto"
    batch_tokens: int | None = None
    reductions: tuple[str | Callable[..., Any], ...] = ()
    threads: int | None = None
    workers: int = 1
    worker_timeout: int | None = None


@dataclass(frozen=True, slots=True)
class FaithfulnessConfig:
    """What `attnstore faithfulness` measures, and how it is computed.

    `documents`: how many, drawn by `seed` from `split` (or from all) in the proportions of the predicted classes.
    `scores`: columns of `tokens`, or reductions for all their layers; none for every column of one value per token.
    `by`: tokens are deleted, or replaced by the tokenizer's mask token. `unit`: what is ranked and taken out as one.
    `model`: where the model is now, None for where the run found it. `lexicon`: labelled data whose words' log-odds
    are a score, too; None for none.
    """

    documents: int = 1000
    scores: tuple[str, ...] = ()
    by: Literal["deletion", "mask"] = "deletion"
    unit: Literal["token", "word"] = "token"
    seed: int = 0
    split: str = "all"
    lexicon: SourceConfig | None = None
    model: str | None = None
    trust_remote_code: bool = False
    device: Device = "auto"
    dtype: Dtype = "auto"
    batch_tokens: int | None = None
