"""The report: one self-contained page, right for every kind of store, and harmless whatever the texts contain."""

import json
import math
import random
import re
from html.parser import HTMLParser

import pytest
import scipy.stats
from asked_store import REDUCTIONS, made_up_documents, set_values, token, write_store
from measured_store import measured_rows, written

from attnstore.ask.answer import ask
from attnstore.ask.faithful import best_score
from attnstore.ask.questions import find_questions
from attnstore.show.report import how_not_to_read, report, wilson
from attnstore.store.manifest import StoredReduction
from attnstore.store.store import open_store

pytestmark = pytest.mark.slow
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'\x1b[31m\u202e\u200b{{7*7}}"
SHOWN = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'␛[31m⟨U+202E⟩⟨U+200B⟩{{7*7}}"


class Page(HTMLParser):
    """A page as parsed by a browser: its tags, the texts outside scripts, and the scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.inside = ""
        self.feed(html)
        (data,) = [s for (t, a), s in zip(self.script_tags(), self.scripts, strict=True) if "type" in a]
        self.data = json.loads(data)

    def script_tags(self):
        return [(tag, attributes) for tag, attributes in self.tags if tag == "script"]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.text += data


def store_of(path, documents, **more):
    for document in documents:
        names = more.get("labels", ("neg", "pos"))
        rest = (1 - document["probability"]) / (len(names) - 1)
        document["probabilities"] = [
            document["probability"] if name == document["prediction"] else rest for name in names
        ]
    write_store(path, documents, **more)
    return open_store(path)


def near(value):
    return pytest.approx(value, rel=6e-7) if isinstance(value, float) else value


def titles(page):
    return [a["data-figure"] for tag, a in page.tags if tag == "article" and "data-figure" in a]


def test_the_figures_hold_the_questions_answers(usual):
    """Each figure's data are its question's rows to seven digits, column by column."""
    store, _, page = usual
    assert titles(page) == [
        "predictions", "confusion", "calibration", "truncation", "top_words_by_class", "distinctive_words",
        "attention_vs_frequency", "errors", "layer_profile", "sinks", "concentration", "position_profile",
        "layer_agreement", "heads",
    ]  # fmt: skip
    for name, given in (("sinks", {}), ("confusion", {}), ("concentration", {})):
        answer = ask(store, find_questions()[name], given)
        figure = page.data["figures"][name]
        assert figure["columns"] == answer.column_names
        for column, values in zip(answer.column_names, figure["values"], strict=True):
            assert values == [near(value) for value in answer.column(column).to_pylist()]
        assert "data" not in figure["spec"]


def test_the_accuracy_is_the_stores_with_its_interval(usual):
    """Counted from the documents by hand. The interval holds the values that a score test does not reject."""
    *_, page = usual
    documents = [d for d in made_up_documents(60) if d["label"] is not None]
    right = sum(d["label"] == d["prediction"] for d in documents)
    low, high = wilson(right, len(documents))
    for bound in (low, high):
        score = abs(right / len(documents) - bound) / math.sqrt(bound * (1 - bound) / len(documents))
        assert score == pytest.approx(scipy.stats.norm.ppf(0.975), abs=1e-6)
    assert (
        f"{right / len(documents):.4f} ({right} of {len(documents)}), 95 % interval {low:.3f} to {high:.3f}"
        in page.text
    )


def test_a_documents_pieces_are_its_text_and_its_lifts_the_stores(usual):
    """No text is missing or repeated. A token's lift is its attention times the document's length."""
    *_, page = usual
    documents = made_up_documents(60)
    assert len(page.data["documents"]) > 8
    for number, drawn in page.data["documents"]:
        document = documents[number]
        assert (
            "".join(piece for _, _, pieces in drawn["paragraphs"] for piece, _ in pieces) == document["text"]
        )
        names = [r["name"] for r in page.data["reductions"]]
        assert names == ["cls", "rollout", "odd"]
        size = len(document["tokens"])
        of_layer_3 = [row["cls_03"] * size for row in document["tokens"]]
        assert drawn["values"][0][2] == pytest.approx(of_layer_3, rel=6e-3)
        assert drawn["special"] == [0, size - 1]


def test_a_words_card_has_its_counts_lifts_and_contexts(usual):
    """Counts of the word by class, a lift per layer, and contexts that contain it."""
    *_, page = usual
    documents = made_up_documents(60)
    cards = dict(page.data["words"])
    for name, (found, occurrences, lifts) in cards["film"]["classes"]:
        of_class = [d for d in documents if d["prediction"] == name]
        words = [[row["word"] for row in d["tokens"] if row["piece"] == 0] for d in of_class]
        assert (found, occurrences) == (sum("film" in w for w in words), sum(w.count("film") for w in words))
        assert len(lifts) == 3
    assert len(cards["film"]["contexts"]) == 4


def test_the_page_makes_no_requests(usual):
    """No tag loads anything, and the page's policy forbids every request and every script but its own three."""
    _, html, page = usual
    assert [t for t, a in page.tags if t in ("link", "img", "iframe", "object", "embed", "base")] == []
    assert [a for _, a in page.tags if "src" in a or a.get("href", "#")[:1] != "#"] == []
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert [s[:8] for s in directives["script-src"].split()] == ["'sha256-"] * 3
    assert len(html.encode()) < 4e6


def test_signed_words_and_faithfulness_are_shown_if_the_store_has_them(tmp_path):
    """With evidence, there are words for and against.

    A measured store shows which score is best, and with what certainty.
    """
    documents = made_up_documents(60)
    generator = random.Random(5)
    for document in documents:
        set_values(document, "evidence", [generator.gauss(0, 0.1) for _ in document["tokens"]])
    evidence = StoredReduction("evidence", False, False, "signed", total=None, signed=True)
    store = store_of(tmp_path / "signed.attn", documents, reductions=(*REDUCTIONS, evidence))
    written(store, measured_rows(range(40), ["cls_02", "cls_03", "random"]))
    page = Page(report(store))
    shown = titles(page)
    assert shown[shown.index("top_words_by_class") + 1] == "for_and_against"
    assert shown[-1] == "faithfulness"
    asked = ask(store, find_questions()["for_and_against"], {}).column("word").to_pylist()
    figure = page.data["figures"]["for_and_against"]
    assert figure["values"][figure["columns"].index("word")] == asked
    # The first section names the first words of each class, and links to every question.
    by_side = ask(store, find_questions()["for_and_against"], {}).to_pylist()
    first = [row["word"] for row in by_side if (row["class"], row["side"]) == ("neg", "against")][:8]
    short = " ".join(page.text.partition("In short")[2].partition("Predicted pos")[0].split())
    assert "Attended to most: " in short
    assert short.endswith(f"To oppose it: {', '.join(first)}.")
    leads = [a["href"] for t, a in page.tags if t == "a" and a["href"].startswith("#figure-")]
    assert leads == [f"#figure-{name}" for name in shown]
    assert f"{best_score(store)}" in page.text
    assert "best of 2 scores on " in page.text


def test_without_labels_nothing_is_right_or_wrong(tmp_path):
    """No accuracy, no confusion, no errors, no mistakes, but words and documents."""
    documents = made_up_documents(60, labels=(None,))
    page = Page(report(store_of(tmp_path / "bare.attn", documents, labels_are_models=False)))
    assert "not reported: the data has no labels, or they are not the model's classes" in page.text
    assert {"confusion", "errors"} & set(titles(page)) == set()
    assert {"top_words_by_class", "sinks"} <= set(titles(page))
    assert "Most confident mistakes" not in page.text
    assert "Least certain" in page.text


def test_labels_that_are_not_the_models_give_a_confusion_and_no_mistakes(tmp_path):
    """It shows which of the model's classes the data's labels get, and calls nothing wrong."""
    documents = made_up_documents(60, labels=("good", "bad"))
    page = Page(report(store_of(tmp_path / "other.attn", documents, labels_are_models=False)))
    assert "confusion" in titles(page)
    assert "errors" not in titles(page)
    assert "Most confident mistakes" not in page.text
    assert {"good", "bad"} <= set(page.data["figures"]["confusion"]["values"][1])


def test_a_store_without_a_reduction_has_predictions_and_documents(tmp_path):
    """Nothing is shaded, and nothing fails."""
    page = Page(report(store_of(tmp_path / "none.attn", made_up_documents(30), reductions=())))
    assert titles(page) == ["predictions", "confusion", "calibration", "truncation"]
    assert page.data["reductions"] == []


def hostile_store(path):
    """A store with `HOSTILE` as text, id, group, token, word, and class name, and its documents."""
    names = ("neg" + HOSTILE, "pos")
    documents = made_up_documents(40, labels=names, predictions=names)
    for number, document in enumerate(documents):
        document["id"] += HOSTILE
        document["group"] = f"{HOSTILE}{number}"
        document["text"] = HOSTILE + document["text"]
        document["tokens"].insert(1, token(HOSTILE, HOSTILE, 0, 1) | {
            key: value for key, value in document["tokens"][0].items()
            if key not in ("token", "word", "piece", "pieces", "special")
        })  # fmt: skip
    return store_of(path, documents, labels=names, label_in_path=False), documents


def test_a_signed_score_is_not_a_share(tmp_path):
    """Its values are shown as they are, not as lifts. The listed words are those of an unsigned reduction."""
    signed = StoredReduction(
        "odd", per_layer=False, per_head=False, meaning="for or against", total=None, signed=True
    )
    documents = made_up_documents(40)
    page = Page(report(store_of(tmp_path / "signed.attn", documents, reductions=(signed, *REDUCTIONS[:1]))))
    assert [(r["name"], r["signed"]) for r in page.data["reductions"]] == [("odd", True), ("cls", False)]
    assert "Shown is cls: attention from [CLS]." in page.text
    for number, drawn in page.data["documents"]:
        odd = [row["odd"] for row in documents[number]["tokens"]]
        expected = [None if value is None else pytest.approx(value, rel=6e-3) for value in odd]
        assert drawn["values"][0][0] == expected


@pytest.mark.slow
def test_values_that_are_not_shares_are_not_compared_with_an_even_share(tmp_path):
    """Neither in the page's text nor in the data of its script."""
    norm = StoredReduction("odd", per_layer=False, per_head=False, meaning="a norm", total=None)
    documents = made_up_documents(30)
    for document in documents:
        for row in document["tokens"]:
            row["odd"] = abs(row["odd"] or 0.0)
    page = Page(report(store_of(tmp_path / "norm.attn", documents, reductions=(norm,))))
    assert (page.data["share"], [r["whole"] for r in page.data["reductions"]]) == (False, [False])
    assert "an even share of it" not in page.text
    assert "(1 is an even share)" not in json.dumps(page.data["figures"])


def test_untrusted_text_is_shown_as_text(hostile):
    """Scripts, markup, quotes, escapes, bidirectional and invisible characters, wherever a store has text."""
    documents, html = hostile
    page = Page(html)
    assert len(page.script_tags()) == 4, "the data, and three scripts of ours"
    assert [a for _, a in page.tags if any(name.startswith("on") for name in a)] == []
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f\u202e\u200b]", page.text + json.dumps(page.data, ensure_ascii=False)
    )
    assert "neg" + SHOWN in page.data["figures"]["predictions"]["values"][1]
    assert SHOWN in dict(page.data["words"])
    number, drawn = page.data["documents"][0]
    assert drawn["id"] == documents[number]["id"].replace(HOSTILE, SHOWN)
    assert "".join(piece for _, _, pieces in drawn["paragraphs"] for piece, _ in pieces).startswith(SHOWN)
    assert "neg" + SHOWN in page.text


def test_every_warning_of_a_question_is_found():
    """The text under "How not to read it" in its documentation, complete and on one line."""
    questions = find_questions()
    assert how_not_to_read(questions["contexts"]).startswith("as a sample. These are the extremes;")
    for question in questions.values():
        assert bool(how_not_to_read(question)) == ("How not to read it:" in question.documentation)
