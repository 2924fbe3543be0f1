"""`attnstore faithfulness`: measures whether what a score ranks highest matters to the model."""

import shlex
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from attnstore.commands.exits import fail
from attnstore.commands.options import (
    StorePlace,
    config_option,
    device_option,
    dtype_option,
    progress_option,
    source_config,
)
from attnstore.commands.output import say
from attnstore.commands.progress import Progress, shown
from attnstore.config import FaithfulnessConfig
from attnstore.engine.paths import compiler
from attnstore.errors import UsageError
from attnstore.messages import counted

if TYPE_CHECKING:
    from attnstore.store.place import Place
    from attnstore.store.store import Store


@click.command()
@click.argument("store", type=StorePlace())
@click.option(
    "--documents",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Number of documents to measure, sampled by predicted class.",
)
@click.option(
    "--scores",
    metavar="A,B,…",
    multiple=True,
    help="Columns such as cls_06, or reductions for all their layers. Default: all. May be repeated.",
)
@click.option(
    "--by",
    type=click.Choice(["deletion", "mask"]),
    default="deletion",
    show_default=True,
    help="Delete tokens, or replace them with the mask token.",
)
@click.option(
    "--unit",
    type=click.Choice(["token", "word"]),
    default="token",
    show_default=True,
    help="The unit to rank and remove; a word's score is the sum over its tokens.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the sample and random orders.",
)
@click.option("--split", default="all", show_default=True, help="Sample only from this split.")
@click.option(
    "--lexicon-data",
    metavar="PATH",
    help="Labelled data, such as the training split: adds the log-odds of its words as a score.",
)
@click.option("--lexicon-split", metavar="TEXT", help="Which split of --lexicon-data. Default: all.")
@click.option("--lexicon-text-column", metavar="NAME,…", help="Its column with the text. Default: detected.")
@click.option("--lexicon-label-column", metavar="NAME", help="Its column with the class. Default: detected.")
@click.option(
    "--lexicon-labels",
    metavar="A,B,…",
    help="Its labels by class: 1=neg,2=pos,3= (nothing), as in `run --labels`.",
)
@click.option("--model", metavar="FOLDER|NAME", help="Where the model is, if it has moved.")
@device_option
@dtype_option
@click.option("--batch-tokens", type=click.IntRange(min=1), help="Tokens per batch.")
@config_option
@progress_option
@click.option("--trust-remote-code", is_flag=True, help="Run code from the model's repository.")
def faithfulness(
    store: "Place",
    scores: Sequence[str],
    lexicon_data: str | None,
    progress: Progress,
    **options: Any,
) -> None:
    """Measure how much predictions depend on the tokens that each score of STORE ranks highest.

    The 1, 5, 10, 20 and 50 % highest tokens of a document are removed, or all others, and the model reads the rest.
    Baselines are a random order, the log-odds of the word in the store's other documents (log_odds) and, with
    --lexicon-data, its log-odds in other labelled data (lexicon). The results are added to STORE; existing ones are not
    measured again.
    """
    asked = {
        name: options.pop(f"lexicon_{name}") for name in ("split", "text_column", "label_column", "labels")
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if lexicon_data is None and given:
        raise UsageError(f"--lexicon-{min(given).replace('_', '-')} is about --lexicon-data: give both")
    lexicon = None if lexicon_data is None else source_config(lexicon_data, given)
    names = tuple(name.strip() for given in scores for name in given.split(","))
    config = FaithfulnessConfig(scores=names, lexicon=lexicon, **options)
    compiler.start(config.device)
    with shown(progress) as on_event:
        from attnstore.check.faithfulness import measure
        from attnstore.store.store import open_store

        opened = open_store(store)
        measured = measure(opened, config, on_event=on_event)
    total = len(measured.sample.documents)
    if measured.interrupted:
        fail(
            f"stopped after {counted(measured.new, 'document')}; the results are kept: the same command resumes",
            128 + (measured.signal or signal.SIGINT),
        )
    if measured.new:
        rate = measured.tokens / max(measured.seconds, 1e-9)
        say(
            f"{counted(measured.new, 'document')} measured, {counted(measured.tokens, 'token')} read in "
            f"{measured.seconds:.1f} s ({rate:,.0f} tokens/s)"
        )
    else:
        say(f"{counted(total, 'document')}: already measured")
    _summarise(opened, config, measured.scores)


def _summarise(store: "Store", config: FaithfulnessConfig, scores: Sequence[str]) -> None:
    from attnstore.ask.answer import ask
    from attnstore.ask.faithful import best_score
    from attnstore.ask.questions import find_questions, get_question
    from attnstore.store.faithfulness import BASELINES

    question = get_question("faithfulness", find_questions())
    rows = ask(store, question, {"removal": config.by, "unit": config.unit}).to_pylist()
    width = max(len("score"), *(len(row["score"]) for row in rows))
    say(f"{'score'.ljust(width)}  comprehensiveness    sufficiency  flips at 20 %  documents")
    for row in rows:
        half = "" if row["high"] is None else f" ± {row['high'] - row['comprehensiveness']:.3f}"
        say(
            f"{row['score'].ljust(width)}  {row['comprehensiveness']:>9.3f}{half:<9} "
            f"{row['sufficiency']:>13.3f}  {row['flips']:>13.2f}  {row['documents']:>9,}"
        )
    candidates = [name for name in scores if name not in BASELINES]
    if candidates:
        say(str(best_score(store, candidates, config.by, config.unit)))
    say(f"next:\n  attnstore query {shlex.quote(str(store.path))} faithfulness")
