"""`attnstore compare`: two stores of the same documents held against each other."""

import json
from typing import TYPE_CHECKING, Any

import click

from attnstore.commands.options import StorePlace, store_argument
from attnstore.commands.output import give, say
from attnstore.messages import counted, one_line

if TYPE_CHECKING:
    from attnstore.ask.compare import Comparison
    from attnstore.store.place import Place


@click.command()
@store_argument
@click.argument("other", type=StorePlace(read=True))
@click.option("--reduction", metavar="NAME", default="cls", show_default=True, help="Which attention.")
@click.option(
    "--layer", default="last", show_default=True, help="Of each store: a number, first, last, mean, or best."
)
@click.option(
    "--min-documents", type=click.IntRange(min=1), help="Leave out words in fewer. Default: 1 in 200."
)
@click.option(
    "--limit", type=click.IntRange(min=0), default=10, show_default=True, help="Words, and documents."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def compare(store: "Place", other: "Place", limit: int, form: str, **options: Any) -> None:
    """Compare STORE (A) with the store OTHER (B) of the same documents, read by another model.

    Documents are matched by id and text, words by their place in the text.
    """
    from attnstore.ask.compare import compare as compared
    from attnstore.store.store import open_store

    found = compared(open_store(store), open_store(other), **options)
    if form == "json":
        values = {name: getattr(found, name) for name in found.__dataclass_fields__}
        for name in ("words", "moved"):
            values[name] = values[name].head(limit).to_dicts()
        give(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
        return
    _print(found, limit)


def _print(found: "Comparison", limit: int) -> None:
    say(
        f"{counted(found.documents, 'document')} in both, {found.only_a:,} in A alone, {found.only_b:,} in B alone"
    )
    say(f"predicted the same: {found.agreeing:,} ({found.agreeing / found.documents:.4f})")
    if (
        found.labelled
        and found.right_a is not None
        and found.right_b is not None
        and found.difference is not None
    ):
        interval = "" if found.low is None else f" ({found.low:+.4f} to {found.high:+.4f})"
        test = "" if found.p is None else f", McNemar's p = {found.p:.2g}"
        say(
            f"accuracy: A {found.right_a / found.labelled:.4f}, B {found.right_b / found.labelled:.4f}, "
            f"difference {found.difference:+.4f}{interval}"
        )
        say(f"right in A alone: {found.right_in_a_alone:,}, in B alone: {found.right_in_b_alone:,}{test}")
    else:
        say("no accuracy is claimed: there are no labels, or they are not both models' classes")
    if limit and len(found.words):
        say("words that get another share of the attention (lift in A, in B, q), the surest first:")
        for row in found.words.head(limit).to_dicts():
            q = "" if row["q"] is None else f"{row['q']:.2g}"
            say(f"  {one_line(row['word'])[:30]:<30} {row['lift_a']:>8.3f} {row['lift_b']:>8.3f}  {q}")
    if limit and len(found.moved):
        say(
            "documents whose attention differs most (Jensen-Shannon divergence in bits, predictions in A and B):"
        )
        for row in found.moved.head(limit).to_dicts():
            names = f"{one_line(row['prediction_a'])[:20]}, {one_line(row['prediction_b'])[:20]}"
            say(f"  {one_line(row['id'])[:40]:<40} {row['distance']:.3f}  {names}")
