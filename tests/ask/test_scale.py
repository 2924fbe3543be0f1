"""The value at which a shade is full: the 99th percentile of a store's lifts, against numpy over plain rows."""

import numpy as np
import pytest
from asked_store import made_up_documents, write_store

import attnstore.ask.scale
from attnstore.ask.scale import Scales, ninety_ninth
from attnstore.errors import UsageError


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    documents = made_up_documents(40)
    return documents, write_store(tmp_path_factory.mktemp("scale") / "s", documents)


def lifts(documents, columns, specials=True, renormalised=False):
    """The lifts of the tokens that are not special, by document."""
    found = []
    for document in documents:
        tokens = document["tokens"]
        values = [np.mean([token[column] for column in columns]) for token in tokens]
        kept = [v for v, token in zip(values, tokens, strict=True) if specials or not token["special"]]
        share = sum(kept) / len(kept) if renormalised and kept else 1 / len(tokens)
        found.append([v / share for v, token in zip(values, tokens, strict=True) if not token["special"]])
    return found


def two_digits(by_document):
    return float(f"{np.quantile(np.concatenate(by_document), 0.99):.2g}")


@pytest.mark.slow
def test_the_scale_is_the_99th_percentile_of_the_lifts(made_up):
    """For a layer, for the mean of layers, and after renormalising. Special tokens never count."""
    documents, store = made_up
    layers = [f"cls_{layer:02d}" for layer in (1, 2, 3)]
    for columns, asked in (
        (layers[1:2], ("cls", 2)),
        (layers, ("cls", "mean")),
        (["rollout"], ("rollout", "last")),
    ):
        for specials, renormalised in ((True, False), (True, True), (False, True)):
            expected = two_digits(lifts(documents, columns, specials, renormalised))
            found = ninety_ninth(store, *asked, specials=specials, renormalised=renormalised)
            assert found == expected
    with pytest.raises(UsageError, match="rolout"):
        ninety_ninth(store, "rolout", "last")


def test_a_thousand_documents_spread_over_the_store_are_enough(made_up, monkeypatch):
    """In a store with more documents, every k-th one counts."""
    documents, store = made_up
    monkeypatch.setattr(attnstore.ask.scale, "SAMPLE", 15)
    found = lifts(documents, ["cls_03"])
    assert ninety_ninth(store, "cls", "last") == two_digits(found[::3])


def test_some_parts_spread_over_the_store_are_enough(made_up, monkeypatch):
    """In a store with more parts, only the parts of the documents that count are read."""
    documents, store = made_up
    monkeypatch.setattr(attnstore.ask.scale, "PARTS", 1)
    found = lifts(documents, ["cls_03"])
    assert ninety_ninth(store, "cls", "last") == two_digits(found[:25])


@pytest.mark.slow
def test_scales_looked_up_ahead_are_those_found_later(made_up, monkeypatch):
    """Per layer, for the mean of heads, and without layers. Nothing is read again."""
    _, store = made_up
    scales = Scales(store)
    for reduction in store.manifest.reductions:
        scales.look_ahead(reduction)
    expected = {
        (reduction.name, layer): ninety_ninth(store, reduction.name, layer)
        for reduction in store.manifest.reductions
        for layer in (range(1, store.manifest.layers + 1) if reduction.per_layer else ["last"])
    }
    monkeypatch.setattr(attnstore.ask.scale, "connect", None)
    assert {asked: scales.full(*asked) for asked in expected} == expected


def test_missing_values_do_not_count_and_a_store_without_any_has_a_scale(tmp_path):
    """Documents without values are ignored. If no document has values, a shade is full at 1."""
    documents = made_up_documents(10)
    there = [
        token["odd"] * len(d["tokens"])
        for d in documents
        for token in d["tokens"]
        if not token["special"] and token["odd"] is not None
    ]
    assert ninety_ninth(write_store(tmp_path / "s", documents), "odd", "last") == two_digits([there])
    for document in documents:
        for token in document["tokens"]:
            token["odd"] = None
    assert ninety_ninth(write_store(tmp_path / "none", documents), "odd", "last") == 1.0
