"""The commands: each opens, calls one function, and prints. Results go to stdout, progress to stderr.

Whatever is heavy (torch, transformers, polars, duckdb) is imported inside the command that needs it, so that
`--help` answers at once. Errors become one line and an exit code here, once for all commands.
"""

import errno
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from attnstore import __version__
from attnstore.config import DEFAULT_REDUCTIONS, RunConfig, SourceConfig
from attnstore.engine.paths import compiler
from attnstore.errors import AttnstoreError, UsageError
from attnstore.messages import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from attnstore.pipeline.run import Progress, RunResult
    from attnstore.store.manifest import Manifest

F = TypeVar("F", bound=Callable[..., Any])

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit. What can go wrong becomes one line on stderr and an exit code."""
    try:
        sys.exit(attnstore.main(arguments, prog_name="attnstore", standalone_mode=False) or 0)
    except AttnstoreError as error:
        _fail(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        hint = ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f" (see {error.ctx.command_path} --help)"
        _fail(error.format_message() + hint, error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing to say, and nowhere to say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except MemoryError:
        _fail("out of memory: try a smaller --batch-tokens", 1)
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise  # not about a file the user named: a bug, and its traceback is wanted
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{(error.strerror or str(error)).lower()}", 1)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"attnstore: {' '.join(message.split())}", err=True)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="attnstore")
def attnstore() -> None:
    """What a text classifier looks at, by class.

    Streams a whole dataset through a fine-tuned classifier, reduces attention to numbers per token while it
    is computed, and writes tokens, attention and predictions to a store of Parquet files that DuckDB, Polars
    and pandas read as they are. The store is the first argument of every command.
    """


# ---------------------------------------------------------------- options that commands share


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_store = click.argument("store", type=click.Path(path_type=Path))

_split = click.option(
    "--split", default="all", show_default=True, help="The split to read; of data without splits, its name."
)

_source = _options(
    click.option(
        "--data", metavar="SOURCE", help="A folder, archive, file, glob, hf://datasets/… path, or imdb."
    ),
    click.option(
        "--text-column",
        metavar="NAME,…",
        help="The column with the text, by name or place (from 1); several are joined. Default: guessed, and said.",
    ),
    click.option("--label-column", metavar="NAME", help="The column with the gold class. Default: guessed."),
    click.option("--id-column", metavar="NAME", help="The column with the document's key. Default: guessed."),
    click.option("--group-column", metavar="NAME", help="What makes documents dependent, such as the film."),
    click.option("--columns", metavar="A,B,…", help="The names of the columns of a file without a header."),
    click.option("--header/--no-header", default=None, help="Whether a table's first row holds names."),
    click.option("--delimiter", metavar="CHARACTER", help="What separates columns; tab for a tab."),
    click.option(
        "--escape", metavar="CHARACTER", help="What stands before a quote inside quotes, as Spark's \\."
    ),
    click.option("--encoding", metavar="NAME", help="The text's encoding, such as cp1252. Default: UTF-8."),
    click.option(
        "--format",
        type=click.Choice(["csv", "tsv", "jsonl", "parquet", "lines"]),
        help="What a file is, whatever its name; lines is a text per line.",
    ),
    click.option("--labels", metavar="A,B,…", help="The model's classes in the order of its logits."),
    click.option(
        "--limit", type=click.IntRange(min=1), help="Take this many documents, spread over the source."
    ),
    click.option(
        "--strict", is_flag=True, help="A row that can't be read is an error instead of being counted."
    ),
)

_device = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="auto is CUDA where there is one.",
)
_dtype = click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="auto is bfloat16 where the hardware is fast at it.",
)

_queries = click.option(
    "--queries",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder of your own questions.",
)

_output = _options(
    click.option(
        "--format",
        "form",
        type=click.Choice(["table", "csv", "json", "markdown", "parquet"]),
        default="table",
        show_default=True,
    ),
    click.option("-o", "--output", type=click.Path(path_type=Path), help="Write here instead of to stdout."),
)


def _source_config(data: str, options: dict[str, Any]) -> SourceConfig:
    """The fields of SourceConfig out of a command's options, which lose them."""
    options = {name: options.pop(name) for name in SourceConfig.__dataclass_fields__ if name in options}
    labels = tuple(name.strip() for name in options.pop("labels").split(",")) if options["labels"] else ()
    options.pop("labels", None)
    if columns := options.pop("columns", None):
        options["columns"] = tuple(name.strip() for name in columns.split(","))
    if options.get("delimiter") == "tab":
        options["delimiter"] = "\t"
    return SourceConfig(data=data, labels=labels, **options)


def _write(table: "pa.Table", form: Any, output: Path | None) -> None:
    from attnstore.show.formats import render

    content = render(table, form)
    if form in ("table", "markdown"):
        from attnstore.ask.questions import BASIS_KEY

        if basis := (table.schema.metadata or {}).get(BASIS_KEY):
            content += b"\nbased on " + basis + b"\n"
    if output is not None:
        output.write_bytes(content)
    elif form == "parquet" and sys.stdout.isatty():
        raise UsageError("Parquet is not for terminals: give --output FILE, or send it to a file")
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()


# ---------------------------------------------------------------- run


@attnstore.command()
@click.argument("store", type=click.Path(path_type=Path), required=False)
@click.option(
    "--model", metavar="FOLDER|NAME", help="A model's folder, or its name on the hub. Default: embedded."
)
@click.option("--revision", metavar="REV", help="The revision of a model on the hub.")
@_source
@_split
@click.option(
    "--reduce",
    "reductions",
    metavar="A,B,…",
    multiple=True,
    default=[",".join(DEFAULT_REDUCTIONS)],
    show_default=True,
    help="What to reduce attention to: cls, received, rollout, cls_heads, from_<position>, package.module:function. "
    "May be repeated.",
)
@_device
@_dtype
@click.option(
    "--max-length",
    type=click.IntRange(min=1),
    help="Tokens a document. Default: 512, or the model's own limit.",
)
@click.option(
    "--batch-tokens",
    type=click.IntRange(min=1),
    help="Tokens a batch. Changes no row, only speed and memory.",
)
@click.option(
    "--part-size", type=click.IntRange(min=1), default=1000, show_default=True, help="Documents a part."
)
@click.option("--full-precision", is_flag=True, help="Store all bits of the values, in 1.7 times the space.")
@click.option("--trust-remote-code", is_flag=True, help="Run the code that a model on the hub brings along.")
def run(
    store: Path | None, model: str | None, data: str | None, reductions: Sequence[str], **options: Any
) -> None:
    """Run a dataset through a classifier into STORE, or go on with the run it holds.

    Without options, the embedded model reads the embedded reviews into ./demo.attn.
    """
    from attnstore.embedded import MODEL, REVIEWS

    if store is None:
        if model is not None or data is not None:
            raise UsageError("say where the store goes: attnstore run STORE …")
        store = Path("demo.attn")
    if model is None and not (MODEL / "config.json").is_file():
        raise UsageError("this attnstore has no embedded model: give --model FOLDER or a name on the hub")
    if data is None:  # the embedded reviews' columns are no guess
        options |= {f"{column}_column": column for column in ("text", "label", "id", "group")}
    config = RunConfig(
        source=_source_config(str(REVIEWS) if data is None else data, options),
        model=str(MODEL) if model is None else model,
        reductions=tuple(name.strip() for given in reductions for name in given.split(",")),
        **options,
    )
    _run(config, store)


def _run(config: RunConfig, store: Path) -> None:
    if any(isinstance(name, str) and ":" in name for name in config.reductions):
        sys.path.append(
            str(Path.cwd())
        )  # the user's own modules; last, so that they can't stand in for others
    compiler.ahead(config.device)
    with _progress() as (started, progressed, downloaded, noted):
        from attnstore.pipeline.run import run as run_pipeline

        result = run_pipeline(
            config,
            store,
            on_start=started,
            on_progress=progressed,
            on_download=downloaded,
            on_note=noted,
        )
    if result.interrupted:
        missing = len(result.store.missing_parts())
        _fail(
            f"stopped; {missing} of {result.store.manifest.parts} parts are missing: the same command goes on",
            INTERRUPTED,
        )
    _summarise(result)


@contextmanager
def _progress() -> Iterator[tuple[Any, Any, Any, Any]]:
    """Progress bars on stderr: of a download, and of a run with documents, tokens per second and time left."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def started(manifest: "Manifest") -> None:
        for note in manifest.notes:
            click.echo(f"note: {note}", err=True)
        bars["run"] = tqdm(
            total=manifest.documents, unit=" documents", file=sys.stderr, smoothing=0.05, leave=False
        )

    def progressed(progress: "Progress") -> None:
        bar = bars["run"]
        if bar.n == 0 and not progress.tokens:
            bar.initial = progress.documents
        bar.update(progress.documents - bar.n)
        elapsed = bar.format_dict["elapsed"]
        bar.set_postfix_str(f"{progress.tokens / max(elapsed, 1e-9):,.0f} tokens/s", refresh=False)

    def noted(note: str) -> None:
        tqdm.write(f"note: {note}", file=sys.stderr)

    try:
        with _downloading() as downloaded:
            yield started, progressed, downloaded, noted
    finally:
        for bar in bars.values():
            bar.close()


def _summarise(result: "RunResult") -> None:
    from attnstore.ask.questions import ask, find_questions, get_question

    store, manifest, known = result.store, result.store.manifest, find_questions()
    if result.documents:
        rate = result.tokens / result.seconds
        click.echo(
            f"{counted(result.documents, 'document')}, {counted(result.tokens, 'token')} in {result.seconds:.1f} s "
            f"({rate:,.0f} tokens/s); {store.path} is sealed with {counted(manifest.documents, 'document')}"
        )
    else:
        click.echo(f"{store.path} was finished before: {counted(manifest.documents, 'document')}")
    for reason, count in manifest.rejected.items():
        click.echo(f"{counted(count, 'row')} became no document: {reason}")
    whole = ask(store, get_question("predictions", known), {}).to_pylist()[0]
    if whole["truncated"]:
        were = "was" if whole["truncated"] == 1 else "were"
        click.echo(f"{counted(whole['truncated'], 'document')} {were} cut at {manifest.max_length} tokens")
    if whole["accuracy"] is not None:
        click.echo(f"accuracy {whole['accuracy']:.5f} ({whole['correct']:,} of {whole['labelled']:,})")
    reduction = manifest.reductions[0].name
    # Without intervals, which are not shown: so it is read off the totals, in a quarter of the memory.
    asked = {"reduction": reduction, "limit": 8, "intervals": False}
    words = ask(store, get_question("top_words_by_class", known), asked).to_pylist()
    if words:
        click.echo(f"most attended words ({reduction}, by predicted class; attention is not explanation):")
    for name in dict.fromkeys(row["class"] for row in words):
        click.echo(f"  {name}: " + ", ".join(row["word"] for row in words if row["class"] == name))
    path = shlex.quote(str(store.path))
    click.echo("next:")
    for command in (f"query {path} top_words_by_class", f"show {path} 0", f"info {path}", "queries"):
        click.echo(f"  attnstore {command}")


# ---------------------------------------------------------------- finetune


@attnstore.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--model",
    metavar="FOLDER|NAME",
    default="bert-base-uncased",
    show_default=True,
    help="The encoder to start from.",
)
@click.option("--revision", metavar="REV", help="The revision of a model on the hub.")
@_source
@click.option(
    "--epochs", type=float, default=3.0, show_default=True, help="Passes over the data; may be a fraction."
)
@click.option("--batch-size", type=int, default=8, show_default=True, help="Documents a step.")
@click.option(
    "--learning-rate", type=float, default=3e-5, show_default=True, help="At its height, after warming up."
)
@click.option("--max-length", type=int, help="Tokens a document. Default: 512, or the model's own limit.")
@click.option(
    "--warmup", type=float, default=0.06, show_default=True, help="Share of the steps to warm up in."
)
@click.option("--weight-decay", type=float, default=0.01, show_default=True, help="AdamW's.")
@click.option(
    "--attention-dropout",
    type=float,
    help="Share of attention dropped in training; 0 is much faster on a CPU. Default: as the model has it.",
)
@click.option(
    "--dev-fraction", type=float, default=0.05, show_default=True, help="Held out to choose the epoch by."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same machine: same weights.")
@_device
@_dtype
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in OUT.")
@click.option("--trust-remote-code", is_flag=True, help="Run the code that a model on the hub brings along.")
def finetune(out: Path, data: str | None, **options: Any) -> None:
    """Fine-tune an encoder on labelled documents into the folder OUT, which `run` then takes for --model.

    Of a source with splits, `train` is trained on and `test` measured once, at the end.
    """
    if data is None:
        raise UsageError("say what to learn from: attnstore finetune OUT --data SOURCE")
    with _training() as (progressed, downloaded):
        from attnstore.learn.finetune import FinetuneConfig
        from attnstore.learn.finetune import finetune as finetune_model

        source = _source_config(data, options)
        result = finetune_model(
            FinetuneConfig(source=source, out=out, **options), progress=progressed, on_download=downloaded
        )
    for note in result.notes:
        click.echo(f"note: {note}", err=True)
    classes = ", ".join(result.labels[:8]) + (", …" if len(result.labels) > 8 else "")
    click.echo(
        f"{result.out}: {len(result.labels)} classes ({classes}), {result.train_documents:,} documents, "
        f"{result.steps:,} steps in {result.seconds:,.0f} s ({result.dtype} on {result.device})"
    )
    if result.dev_accuracy is not None:
        click.echo(f"dev accuracy {result.dev_accuracy:.4f} on {result.dev_documents:,} documents held out")
    if result.test_accuracy is not None:
        click.echo(f"test accuracy {result.test_accuracy:.4f} on {result.test_documents:,} documents")
    click.echo(f"next: attnstore run STORE --model {shlex.quote(str(result.out))} --data {shlex.quote(data)}")


@contextmanager
def _training() -> Iterator[tuple[Any, Any]]:
    """A progress bar on stderr for each phase of a training: step, loss, accuracy, time left."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def progressed(progress: Any) -> None:
        phase = f"dev {progress.epoch:.2f}" if progress.phase == "dev" else progress.phase
        if phase not in bars:
            bars[phase] = tqdm(total=progress.steps, unit=" steps", desc=phase, file=sys.stderr, leave=False)
        figures = {"loss": progress.loss, "accuracy": progress.accuracy, "dev": progress.dev_accuracy}
        bars[phase].set_postfix({k: f"{v:.4f}" for k, v in figures.items() if v is not None}, refresh=False)
        bars[phase].update(progress.step - bars[phase].n)

    try:
        with _downloading() as downloaded:
            yield progressed, downloaded
    finally:
        for bar in bars.values():
            bar.close()


@contextmanager
def _downloading() -> Iterator[Any]:
    """A progress bar on stderr for a download: bytes done, of how many."""
    from tqdm import tqdm

    bars: list[Any] = []

    def downloaded(done: int, total: int | None) -> None:
        if not bars:
            bars.append(
                tqdm(total=total, unit="B", unit_scale=True, file=sys.stderr, desc="download", leave=False)
            )
        bars[0].update(done - bars[0].n)

    try:
        yield downloaded
    finally:
        for bar in bars:
            bar.close()


# ---------------------------------------------------------------- ask


@attnstore.command()
@_store
@click.argument("name")
@click.option(
    "-p", "--parameter", "given", multiple=True, metavar="NAME=VALUE", help="A parameter of the question."
)
@click.option("--engine", type=click.Choice(["duckdb", "polars"]), default="duckdb", show_default=True)
@_queries
@_output
def query(
    store: Path,
    name: str,
    given: Sequence[str],
    engine: Any,
    folders: Sequence[Path],
    form: str,
    output: Path | None,
) -> None:
    """Answer the question NAME from STORE. `attnstore queries` lists the questions."""
    from attnstore.ask.questions import ask, find_questions, get_question, unknown_word
    from attnstore.store.store import open_store

    parameters: dict[str, str] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"-p {item}: write it as name=value")
        if key in parameters:
            raise UsageError(f"-p {item}: {key} is given twice")
        parameters[key] = value
    opened = open_store(store)
    question = get_question(name, find_questions(*folders))
    answer = ask(opened, question, parameters, engine)
    _write(answer, form, output)
    if not answer.num_rows and "word" in parameters and (note := unknown_word(opened, parameters["word"])):
        click.echo(f"note: {note}", err=True)


@attnstore.command()
@click.argument("name", required=False)
@_queries
def queries(name: str | None, folders: Sequence[Path]) -> None:
    """List the questions with their parameters, or document the question NAME."""
    from attnstore.ask.questions import describe, find_questions, get_question, signature

    known = find_questions(*folders)
    if name is not None:
        click.echo(describe(get_question(name, known)))
        return
    for question in known.values():
        click.echo(f"{click.style(question.name, bold=True)}: {question.summary}")
        for parameter in question.parameters:
            click.echo(f"    {signature(parameter)}: {parameter.meaning}")


@attnstore.command()
@_store
@click.argument("statement")
@_output
def sql(store: Path, statement: str, form: str, output: Path | None) -> None:
    """Run one read-only SQL STATEMENT over the views `documents`, `tokens` and `totals` of STORE."""
    from attnstore.ask.questions import run_sql
    from attnstore.store.store import open_store

    _write(run_sql(open_store(store), statement), form, output)


@attnstore.command()
@_store
@click.argument("document")
@click.option("--reduction", metavar="NAME", help="Default: the first one stored.")
@click.option("--layer", default="last", show_default=True, help="A number, first, last or mean.")
@click.option("--relative", is_flag=True, help="Shade by this document's own maximum.")
@click.option("--words", type=click.Choice(["sum", "mean"]), help="Merge wordpieces into words.")
@click.option("--ignore", multiple=True, metavar="TOKEN", help="Blank this token or word. May be repeated.")
@click.option("--ignore-special", is_flag=True, help="Blank [CLS], [SEP] and the like.")
@click.option("--renormalise", is_flag=True, help="Rescale what is not ignored, be it all, to a sum of 1.")
@click.option(
    "--background",
    type=click.Choice(["dark", "light"]),
    help="The terminal's. Default: what COLORFGBG says, else dark.",
)
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write a self-contained page here.")
def show(store: Path, document: str, background: Any, page: Path | None, **options: Any) -> None:
    """Print a DOCUMENT of STORE with its tokens shaded by attention.

    DOCUMENT is its id, or its number, from 0. Where ids are numbers, or repeat, @3 is the number 3.
    """
    import shutil

    from attnstore.reader import Reader
    from attnstore.show.page import html
    from attnstore.show.paint import colour_depth, terminal_background
    from attnstore.show.terminal import terminal

    drawn = Reader(store).show(document, **options)
    if page is not None:
        page.write_text(html(drawn), encoding="utf-8")
        click.echo(f"wrote {page}")
        return
    colour = colour_depth(os.environ, sys.stdout.isatty())
    width = shutil.get_terminal_size().columns
    # Not click.echo: it would strip the colours that FORCE_COLOR asks for.
    sys.stdout.write(terminal(drawn, colour, width, background or terminal_background(os.environ)) + "\n")


# ---------------------------------------------------------------- look at the store itself


@attnstore.command()
@_store
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def info(store: Path, form: str) -> None:
    """Tell what is in STORE, sealed or not."""
    from attnstore.store.store import open_store

    opened = open_store(store)
    if form == "json":
        click.echo(opened.manifest.to_json(), nl=False)
        return
    for name, value in _facts(opened):
        click.echo(f"{name + ':':<14} {value}")


def _facts(opened: Any) -> Iterator[tuple[str, str]]:
    manifest: Manifest = opened.manifest
    files, finished = opened.files(), opened.finished_parts()
    rows = {kind: sum(f.rows for f in files if f.path.startswith(kind)) for kind in ("documents", "tokens")}
    yield "store", str(opened.path)
    if manifest.sealed:
        yield "state", f"sealed {manifest.sealed}"
    else:
        yield (
            "state",
            f"unsealed: {len(finished)} of {manifest.parts} parts; `attnstore run` with the same options goes on",
        )
    yield "documents", f"{rows['documents']:,} of {manifest.documents:,}"
    yield "tokens", f"{rows['tokens']:,}, documents cut at {manifest.max_length}"
    yield "size", f"{sum(f.bytes for f in files) / 1e6:,.1f} MB in {len(files)} files"
    yield "model", f"{manifest.model} ({manifest.layers} layers, {manifest.heads} heads)"
    yield "classes", ", ".join(manifest.labels)
    yield "data", f"{manifest.data}, split {manifest.fingerprint['split']}"
    if not manifest.labels_are_models:
        yield "labels", "none, or not the model's classes: no accuracy is claimed"
    yield "values", f"computed in {manifest.fingerprint['dtype']}, stored as {manifest.fingerprint['values']}"
    for reduction in manifest.reductions:
        columns = reduction.columns(manifest.layers)
        span = columns[0] if len(columns) == 1 else f"{columns[0]} … {columns[-1]}"
        yield "reduction", f"{span}: {reduction.meaning}"
    for past in manifest.runs:
        speed = f"{past['tokens']:,} tokens at {past['tokens_per_second']:,} tokens/s"
        yield (
            "run",
            f"{past['ended']}: {past['parts']} parts, {speed} on {past['device']}, {past['way']}, {past['kernel']}",
        )
    for reason, count in manifest.rejected.items():
        yield "rejected", f"{count:,} rows: {reason}"
    for note in manifest.notes:
        yield "note", note
    yield "versions", ", ".join(f"{name} {number}" for name, number in manifest.versions.items())


@attnstore.command()
@_store
@click.option("--model", metavar="FOLDER|NAME", help="Where the model is now, if it has moved.")
@click.option(
    "--sample", type=click.IntRange(min=0), default=20, show_default=True, help="Documents to recompute."
)
@click.option("--trust-remote-code", is_flag=True, help="Run the code that a model on the hub brings along.")
def verify(store: Path, model: str | None, sample: int, trust_remote_code: bool) -> None:
    """Read all of STORE back and check it; recompute a sample with eager float32 attention."""
    from attnstore.check.verify import verify_files
    from attnstore.store.store import open_store

    opened = open_store(store)
    faults = 0
    for finding in _findings(verify_files(opened), opened, model, sample, trust_remote_code):
        faults += not finding.ok
        click.echo(f"{'ok   ' if finding.ok else 'FAULT'} {finding.subject}: {finding.detail}")
    if faults:
        _fail(f"{store} has {counted(faults, 'fault')}", 1)


def _findings(
    files: Iterator[Any], opened: Any, model: str | None, sample: int, trust: bool
) -> Iterator[Any]:
    recomputed: Iterator[Any] = iter(())
    if sample:  # a wrong model is told before the store is read
        from attnstore.check.oracle import verify_sample

        recomputed = verify_sample(opened, model, sample=sample, trust_remote_code=trust)
    sound = True
    for finding in files:
        sound = sound and finding.ok
        yield finding
    if sound:  # values of a damaged store say nothing about the engine
        yield from recomputed


if __name__ == "__main__":
    main()
