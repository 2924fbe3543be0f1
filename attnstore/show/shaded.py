"""A document of a store, shaded as requested: the same for a terminal, a notebook and the explorer."""

from dataclasses import dataclass
from typing import Literal, SupportsIndex

from attnstore.ask.answer import Connect, document_with_tokens
from attnstore.ask.faithful import best_layer
from attnstore.ask.scale import Scales
from attnstore.ask.sql import connect
from attnstore.errors import StoreError, UsageError
from attnstore.show.heatmap import Heatmap
from attnstore.show.words import ignore_tokens, merge_words
from attnstore.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a document is drawn.

    `reduction`: its name; None for the first one stored. `layer`: a number, first, last, mean or best. `head`: a
    number from 1, or the mean of all. `relative`: full shade at the document's own maximum. `words`: how pieces are
    merged; None leaves them. `ignore`: tokens or words to blank, `ignore_special`: the special ones; `renormalise`:
    what remains is rescaled to a sum of 1.
    """

    reduction: str | None = None
    layer: int | str = "last"
    head: int | str = "mean"
    relative: bool = False
    words: Literal["sum", "mean"] | None = "sum"
    ignore: tuple[str, ...] = ()
    ignore_special: bool = False
    renormalise: bool = False


def shaded(
    store: Store, document: str | SupportsIndex, look: Look, scales: Scales, connect: Connect = connect
) -> Heatmap:
    """A document by its id or number, shaded according to `look`, with full shades from the same store's `scales`.

    Raises:
        UsageError: there is no such document, reduction, layer or head, the id belongs to several documents, or a
            signed score is to be renormalised.
        StoreError: the store holds no reduction, or can't be read.
    """
    manifest = store.manifest
    if not manifest.reductions:
        raise StoreError(f"{store.path} holds no reduction: there is nothing to shade by")
    chosen = look.reduction or manifest.reductions[0].name
    stored, layer = manifest.reduction(chosen), look.layer
    if layer == "best" and stored is not None and stored.per_layer:
        layer = best_layer(store, stored)
    row, tokens = document_with_tokens(store, document, chosen, layer, connect, head=look.head)
    assert stored is not None  # noqa: S101 - else the tokens could not have been asked for
    if stored.signed and look.renormalise:
        raise UsageError(
            f"{chosen} has values above and below 0, which do not form a whole: don't renormalise it"
        )
    whole = stored.total == 1.0 or look.renormalise
    if look.words is not None:
        tokens = merge_words(tokens, look.words, stored.signed, whole)
    if look.ignore or look.ignore_special or look.renormalise:
        tokens = ignore_tokens(tokens, look.ignore, look.renormalise, look.ignore_special)
    return Heatmap(
        id=row["id"],
        text=row["text"],
        label=row["label"],
        prediction=row["prediction"],
        probability=row["probability"],
        reduction=chosen,
        layer=_layer_in_words(layer, manifest.layers) if stored.per_layer else "",
        head="" if look.head == "mean" else f"{look.head} of {manifest.heads}",
        truncated=row["truncated"],
        tokens=tokens,
        relative=look.relative,
        labels_are_models=manifest.labels_are_models,
        text_pair=row["text_pair"],
        signed=stored.signed,
        whole=whole,
        full=scales.full(chosen, layer, look.head, not look.ignore_special, look.renormalise, connect),
        full_means="the 99th percentile of this store's tokens",
    )


def _layer_in_words(layer: int | str, layers: int) -> str:
    if layer == "mean":
        return "mean of the layers"
    number = {"first": 1, "last": layers}.get(str(layer), layer)
    return f"{number} of {layers}"
