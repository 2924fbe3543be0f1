"""What a run is, in full: the records that travel through the program instead of lists of options."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

#: auto, cpu, cuda, cuda:N for one of several GPUs, counted from 0, or mps for Apple's.
Device = str
#: How a document that is longer than the model's limit is read; see `engine.long`.
Long = Literal["cut", "tail", "head+tail", "windows"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
OnDuplicate = Literal["refuse", "skip", "keep"]
#: What a file of rows is.
Format = Literal["csv", "tsv", "json", "jsonl", "parquet", "arrow", "excel", "lines"]

#: The default limit for the size of a row or a text file.
MAX_DOCUMENT_BYTES = 16 << 20

#: The default reductions of `attnstore run`.
DEFAULT_REDUCTIONS = ("cls", "received", "rollout", "evidence")


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """A data set and how to read it.

    `data`: a folder, an archive, a file, a glob, a URL (`hf://datasets/...`, `https://...`, `s3://...`), a name on the
    hub, `-` for standard input, or the word `imdb`. `FILE::NAME` is a member of an archive, a sheet, or a database
    table.
    `held`: data in memory; `data` is then only its name.
    `subset`: the configuration, for a data set with several. `query`: a SELECT for a SQLite or DuckDB file.
    `split`: the split to read, or `all`; for a source without splits, the name of its one split.
    `text_column`: a column's name or position (from 1), or several, separated by commas, joined with a space.
    `pair`: the two columns of `text_column` are two texts for a model that reads pairs, instead of being joined.
    `keep`: columns of the data to store in the store's `documents`.
    `columns`: the column names of a delimited file, `header`: whether its first row is a header; `delimiter`,
    `escape` (the character that escapes a quote) and `encoding`: None to detect them.
    `format`: the file format, whatever the name: csv, tsv, json, jsonl, parquet, arrow, excel, or lines (one text per
    line).
    `limit`: read this many documents, spread evenly over the source.
    `labels`: the model's class names in logit order, for a model without names; and entries such as `1=neg` that map
    a label of the data to a class (`3=`: its rows are left out).
    `strict`: a row that can't become a document is an error instead of being counted.
    `max_document_bytes`: larger rows, text files and array elements are left out.
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

    `long`: how documents longer than `max_length` tokens are read; `stride`: tokens from the start of one window to the
    next, None for half a window.
    `reductions`: names of built-in ones, `package.module:function` for custom ones, or functions.
    `batch_tokens`: the most tokens in a batch, None for the device's default; it changes no row.
    `part_size`: documents per part, fixed when the store is created; None for 1,000, or as many short ones as make a
    million characters, or as many as make 10,000 parts.
    `full_precision`: store every bit of the float32 values instead of rounding them to bfloat16.
    `threads`: CPU threads per process; the last bits of a matrix product depend on it. None for the number that the
    store was begun with, if the machine has that many, otherwise for all, divided among the workers.
    `workers`: number of computing processes, 1 for this one alone; with GPUs, one on each in turn.
    `worker_timeout`: seconds after which a worker that has not finished a batch, or loaded the model, is stopped and
    replaced; None for half an hour to load, then ten minutes or ten times the longest batch so far.
    `ray`: the Ray cluster whose actors are the workers (`local`, `auto`, `HOST:PORT`, `ray://HOST:PORT`); None for
    processes of this machine.
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
    ray: str | None = None


@dataclass(frozen=True, slots=True)
class AppendConfig:
    """What `attnstore append` adds to a store, and how it is computed; everything else comes from the store.

    `source`: columns default to those that the run named, "" to detect one; `pair` and `keep` are the run's.
    `on_duplicate`: what to do about ids that the store already has. `refuse` stops the append, `skip` leaves out
    identical documents and refuses the rest, `keep` appends all.
    `model`: where the model is, None for where the run found it. `reductions`: the run's reductions with your own
    functions; empty for what the store records.
    `threads`, `workers`, `worker_timeout`, `ray`: as in `RunConfig`.
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
    ray: str | None = None


@dataclass(frozen=True, slots=True)
class FaithfulnessConfig:
    """What `attnstore faithfulness` measures, and how it is computed.

    `documents`: how many, sampled with `seed` from `split` (or from all) in the proportions of the predicted classes.
    `scores`: columns of `tokens`, or reductions for all their layers; empty for every column with one value per token.
    `by`: tokens are deleted, or replaced by the tokenizer's mask token. `unit`: the unit that is ranked and removed.
    `model`: where the model is, None for where the run found it. `lexicon`: labelled data whose words' log-odds
    become a score; None for none.
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
