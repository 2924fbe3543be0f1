"""`attnstore run`: runs a data set through a classifier into a store, and prints a summary."""

import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attnstore.commands.exits import fail
from attnstore.commands.options import (
    StorePlace,
    config_option,
    device_option,
    dtype_option,
    processes_option,
    progress_option,
    source_config,
    source_option,
    split_option,
)
from attnstore.commands.output import say
from attnstore.commands.progress import Progress, shown
from attnstore.config import DEFAULT_REDUCTIONS, RunConfig
from attnstore.engine.paths import compiler
from attnstore.errors import UsageError
from attnstore.messages import counted

if TYPE_CHECKING:
    from attnstore.pipeline.run import RunResult
    from attnstore.store.manifest import Manifest, StoredReduction
    from attnstore.store.place import Place
    from attnstore.store.store import Store

_MOST_PROPOSED = 200  # labels; more are a measurement, or would fill the screen


@click.command()
@click.argument("store", type=StorePlace(), required=False)
@click.option(
    "--model",
    metavar="FOLDER|NAME",
    help="A model folder, or a name on the hub. Default: the embedded model.",
)
@click.option("--revision", metavar="REV", help="The revision of a model on the hub.")
@source_option
@split_option
@click.option(
    "--pair",
    is_flag=True,
    help="Read the two columns of --text-column A,B as a pair, for a model that takes two texts.",
)
@click.option(
    "--keep-column",
    "keep",
    metavar="NAME",
    multiple=True,
    help="A column of the data to keep in the store's documents. May be repeated.",
)
@click.option(
    "--reduce",
    "reductions",
    metavar="A,B,…",
    multiple=True,
    default=[",".join(DEFAULT_REDUCTIONS)],
    show_default=True,
    help="Reductions of attention: cls, received, rollout, evidence, cls_heads, norm, relevance, "
    "evidence_by_class, from_<position>, package.module:function. May be repeated.",
)
@device_option
@dtype_option
@click.option(
    "--max-length",
    type=click.IntRange(min=1),
    help="Tokens per document. Default: 512, or the model's own limit.",
)
@click.option(
    "--long",
    type=click.Choice(["cut", "tail", "head+tail", "windows"]),
    default="cut",
    show_default=True,
    help="What to read of longer documents: the beginning, the end, both, or everything in windows.",
)
@click.option(
    "--stride",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tokens from the start of one window to the next. Default: half of --max-length.",
)
@click.option(
    "--batch-tokens",
    type=click.IntRange(min=1),
    help="Tokens per batch. Changes no row, only speed and memory.",
)
@click.option(
    "--part-size",
    type=click.IntRange(min=1),
    help="Documents per part. Default: 1,000, or more if they are short.",
)
@processes_option
@click.option(
    "--full-precision", is_flag=True, help="Store values at full precision, in 1.7 times the space."
)
@config_option
@progress_option
@click.option("--trust-remote-code", is_flag=True, help="Run code from the model's repository.")
def run(
    store: "Place | None",
    model: str | None,
    data: str | None,
    reductions: Sequence[str],
    progress: Progress,
    **options: Any,
) -> None:
    """Run a data set through a classifier and write STORE, or resume the run in it.

    Without options, the embedded model reads the embedded reviews and writes ./demo.attn.
    """
    from attnstore.embedded import MODEL, REVIEWS

    if store is None:
        if model is not None or data is not None:
            raise UsageError("name the store to write: attnstore run STORE …")
        store = Path("demo.attn")
    if model is None and not (MODEL / "config.json").is_file():
        raise UsageError("this attnstore has no embedded model: give --model FOLDER or a name on the hub")
    if data is None:  # the columns of the embedded reviews are known
        options |= {f"{column}_column": column for column in ("text", "label", "id", "group")}
    config = RunConfig(
        source=source_config(str(REVIEWS) if data is None else data, options),
        model=str(MODEL) if model is None else model,
        reductions=tuple(name.strip() for given in reductions for name in given.split(",")),
        **options,
    )
    _run(config, store, progress)


def _run(config: RunConfig, store: "Place", progress: Progress) -> None:
    if any(isinstance(name, str) and ":" in name for name in config.reductions):
        sys.path.append(
            str(Path.cwd())
        )  # the user's own modules; last, so that they can't stand in for others
    compiler.start(config.device)
    with shown(progress) as on_event:
        from attnstore.pipeline.run import run as run_pipeline

        result = run_pipeline(config, store, on_event=on_event)
    if result.interrupted:
        missing = len(result.store.missing_parts())
        fail(
            f"stopped; {missing} of {result.store.manifest.parts} parts are missing: the same command resumes",
            128 + (result.signal or signal.SIGINT),
        )
    _summarise(result)


def _propose_labels(store: "Store") -> None:
    """Show predictions by label, and the `--labels` mapping with which most predictions agree."""
    from attnstore.ask.crossed import cross_table, predictions_by_label
    from attnstore.data.advice import best_assignment

    counts = predictions_by_label(store)
    if not counts or len({label for label, _ in counts}) > _MOST_PROPOSED:
        return
    say("the labels are not the model's classes, so no accuracy is reported; predictions by label:")
    for line in cross_table(counts, store.manifest.labels):
        say(f"  {line}")
    option, agreeing = best_assignment(counts, store.manifest.labels)
    say(
        f"a suggestion to check: --labels {shlex.quote(option)} ({agreeing:,} of"
        f" {counted(sum(counts.values()), 'prediction')} agree; no other mapping has more)"
    )


def _summarise(result: "RunResult") -> None:
    from attnstore.ask.answer import ask
    from attnstore.ask.questions import find_questions, get_question

    store, manifest, known = result.store, result.store.manifest, find_questions()
    if result.documents:
        rate = result.tokens / result.seconds
        say(
            f"{counted(result.documents, 'document')}, {counted(result.tokens, 'token')} in {result.seconds:.1f} s "
            f"({rate:,.0f} tokens/s); {store.path} is sealed with {counted(manifest.documents, 'document')}"
        )
    else:
        say(f"{store.path} was already finished: {counted(manifest.documents, 'document')}")
    for reason, count in manifest.rejected.items():
        say(f"left out: {reason}: {counted(count, 'row')}")
    whole = ask(store, get_question("predictions", known), {}).to_pylist()[0]
    if whole["truncated"]:
        were = "was" if whole["truncated"] == 1 else "were"
        say(f"{counted(whole['truncated'], 'document')} {were} cut at {manifest.max_length} tokens")
    if whole["accuracy"] is not None:
        say(f"accuracy {whole['accuracy']:.5f} ({whole['correct']:,} of {whole['labelled']:,})")
    if not manifest.labels_are_models:
        _propose_labels(store)
    asked = [listing.question for listing in _LISTINGS if _list_words(store, listing)]
    path = shlex.quote(str(store.path))
    say("next:")
    first = [f"query {path} {question}" for question in asked]
    for command in (*first, f"show {path} 0", f"browse {path}", f"report {path}", f"info {path}", "queries"):
        say(f"  attnstore {command}")


@dataclass(frozen=True, slots=True)
class _Listing:
    """Words listed at the end of a run: the question, the score it is asked for, and the layout of its answer.

    `score` returns a store's score for the question, or None if it has none. `title` may contain `{score}`. Each
    combination of values of the `line` columns gets a line.
    """

    question: str
    score: Callable[["Manifest"], "StoredReduction | None"]
    title: str
    line: tuple[str, ...]


_LISTINGS = (
    _Listing(
        "top_words_by_class",
        lambda manifest: manifest.attention,
        "most attended words ({score}, by predicted class; attention is not explanation):",
        ("class",),
    ),
    _Listing(
        "for_and_against",
        lambda manifest: manifest.evidence,
        "words for a prediction and against it (mean {score}, by predicted class):",
        ("side", "class"),
    ),
)


def _list_words(store: "Store", listing: _Listing) -> bool:
    """Print the first words of an answer, one line per class (and side); return False if there are none."""
    from attnstore.ask.answer import ask
    from attnstore.ask.questions import find_questions, get_question

    score = listing.score(store.manifest)
    if score is None:
        return False
    # Without intervals, which are not shown, the answer comes from the totals and needs a quarter of the memory.
    asked = {"reduction": score.name, "limit": 8, "intervals": False}
    words: dict[str, list[str]] = {}
    for row in ask(store, get_question(listing.question, find_questions()), asked).to_pylist():
        words.setdefault(" ".join(row[column] for column in listing.line), []).append(row["word"])
    if words:
        say(listing.title.format(score=score.name))
    for line, listed in words.items():
        say(f"  {line}: {', '.join(listed)}")
    return bool(words)
