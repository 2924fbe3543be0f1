"""Shared by several files of this room: a small document with its attention, and two reports."""

import pytest
from drawings import FILM, shaded


@pytest.fixture
def film():
    return shaded("An unforgettable <film>", FILM, prediction="neg")


@pytest.fixture(scope="session")
def usual(tmp_path_factory):
    """A store of made-up documents, and its report parsed as by a browser."""
    from asked_store import made_up_documents
    from test_report import Page, report, store_of

    store = store_of(tmp_path_factory.mktemp("usual") / "usual.attn", made_up_documents(60))
    html = report(store)
    return store, html, Page(html)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory):
    """The documents of a store in which every text is hostile, and its report."""
    from test_report import hostile_store, report

    store, documents = hostile_store(tmp_path_factory.mktemp("hostile") / "hostile.attn")
    return documents, report(store)
