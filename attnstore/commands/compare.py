"""`attnstore compare`: compares two stores of the same documents."""

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
@click.argument("others", metavar="OTHER…", nargs=-1, required=True, type=StorePlace(read=True))
@click.option(
    "--reduction", metavar="NAME", default="cls", show_default=True, help="The reduction to compare."
)
@click.option(
    "--layer",
    default="last",
    show_default=True,
    help="Layer of each store: a number, first, last, mean, or best.",
)
@click.option(
    "--min-documents",
    type=click.IntRange(min=1),
    help="Leave out words in fewer documents. Default: 1 in 200.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Number of words, and of documents.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def compare(store: "Place", others: "tuple[Place, ...]", limit: int, form: str, **options: Any) -> None:
    """Compare STORE (A) with OTHER (B), made from the same documents with another model.

    Documents are matched by id and text, words by their place in the text. For three or more stores, such as models
    from several seeds, it reports how much of a word list comes from the model and how much from the seed.
    """
    from attnstore.ask.compare import compare as compared
    from attnstore.store.store import open_store

    if len(others) > 1:
        _compare_seeds([store, *others], limit, form, options)
        return
    (other,) = others
    found = compared(open_store(store), open_store(other), **options)
    if form == "json":
        values = {name: getattr(found, name) for name in found.__dataclass_fields__}
        for name in ("words", "moved"):
            values[name] = values[name].head(limit).to_dicts()
        values["layers"] = values["layers"].to_dicts()
        give(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
        return
    _print(found, limit)


def _compare_seeds(stores: "list[Place]", limit: int, form: str, options: dict[str, Any]) -> None:
    from attnstore.ask.seeds import compare_seeds
    from attnstore.ask.several import open_stores

    found = compare_seeds(open_stores(stores), **options)
    words = found.words.group_by("class", maintain_order=True).head(limit)
    if form == "json":
        values = {
            "documents": found.documents,
            "accuracies": found.accuracies,
            "parts": found.parts.to_dicts(),
            "lists": found.lists.to_dicts(),
            "words": words.to_dicts(),
        }
        give(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
        return
    say(f"{counted(found.documents, 'document')} in all of {len(stores)} stores")
    if found.accuracies:
        say(
            "accuracy: "
            + ", ".join(f"{one_line(name)} {value:.4f}" for name, value in found.accuracies.items())
        )
    say("sources of the variance of the words' figures in one store")
    for row in found.parts.to_dicts():
        say(
            f"  {one_line(row['class'])[:20]:<20} {row['model']:.0%} is the same in all stores, {row['seed']:.0%} the "
            f"store's, {row['sampling']:.0%} the sample's ({counted(row['words'], 'word')})"
        )
    say("leading words that two stores share")
    for row in found.lists.to_dicts():
        say(
            f"  {one_line(row['class'])[:20]:<20} {row['shared']:.1f} of {row['size']} on average, "
            f"{row['fewest']} to {row['most']}"
        )
    if limit and len(words):
        say(
            "words by their mean over stores (mean, its interval, lowest and highest store, the store's part):"
        )
        for row in words.to_dicts():
            ends = "" if row["low"] is None else f"{row['low']:>8.3f} to {row['high']:.3f}"
            part = "" if row["part"] is None else f"{row['part']:>5.0%}"
            say(
                f"  {one_line(row['class'])[:12]:<12} {one_line(row['word'])[:24]:<24} {row['mean']:>8.3f} "
                f"{ends:<18} {row['lowest']:>8.3f} {row['highest']:>8.3f} {part}"
            )


def _print(found: "Comparison", limit: int) -> None:
    from attnstore.show.p_values import TOO_SMALL, p_value

    say(
        f"{counted(found.documents, 'document')} in both, {found.only_a:,} only in A, {found.only_b:,} only in B"
    )
    say(f"predicted the same: {found.agreeing:,} ({found.agreeing / found.documents:.4f})")
    if (
        found.labelled
        and found.right_a is not None
        and found.right_b is not None
        and found.difference is not None
    ):
        interval = "" if found.low is None else f" ({found.low:+.4f} to {found.high:+.4f})"
        p = "" if found.p is None else p_value(found.p, 2)
        test = f", McNemar's p {p if p == TOO_SMALL else f'= {p}'}" if p else ""
        say(
            f"accuracy: A {found.right_a / found.labelled:.4f}, B {found.right_b / found.labelled:.4f}, "
            f"difference {found.difference:+.4f}{interval}"
        )
        say(f"right only in A: {found.right_in_a_alone:,}, only in B: {found.right_in_b_alone:,}{test}")
    else:
        say("no accuracy is reported: there are no labels, or they are not the classes of both models")
    if limit and len(found.words):
        say("words whose share of attention differs (lift in A, in B, q), the most certain first:")
        for row in found.words.head(limit).to_dicts():
            q = "" if row["q"] is None else p_value(row["q"], 2)
            say(f"  {one_line(row['word'])[:30]:<30} {row['lift_a']:>8.3f} {row['lift_b']:>8.3f}  {q}")
    if limit and len(found.layers):
        say("layers of A, each with the most similar layer of B (similarity; of each to even attention):")
        alike = found.layers.sort("similarity", descending=True).unique(
            "layer_a", keep="first", maintain_order=True
        )
        for row in alike.sort("layer_a").to_dicts():
            say(
                f"  {row['layer_a']:>2} {row['layer_b']:>2}  {row['similarity']:>6.3f}  "
                f"{row['even_a']:>6.3f} {row['even_b']:>6.3f}"
            )
    if limit and len(found.moved):
        say(
            "documents whose attention differs most (Jensen-Shannon divergence in bits, predictions in A and B):"
        )
        for row in found.moved.head(limit).to_dicts():
            names = f"{one_line(row['prediction_a'])[:20]}, {one_line(row['prediction_b'])[:20]}"
            say(f"  {one_line(row['id'])[:40]:<40} {row['distance']:.3f}  {names}")
