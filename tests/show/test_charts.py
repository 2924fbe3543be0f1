"""Charts of questions: each draws the whole answer, with classes in order and colour, for any store."""

import json
import re

import pyarrow as pa
import pytest
import vl_convert
from asked_store import made_up_documents, write_store
from measured_store import measured_rows, written

from attnstore.ask.answer import ask
from attnstore.ask.questions import find_questions, get_question
from attnstore.errors import UsageError
from attnstore.show.charts import fill, own_parameters, read_chart
from attnstore.show.plot import plot
from attnstore.store.manifest import StoredReduction
from attnstore.store.store import open_store

QUESTIONS = find_questions()
REQUIRED = {"text": "film", "document": "@3"}


def given(question):
    """Values for required parameters, and a support that small stores reach."""
    found = {p.name: REQUIRED[p.type] for p in question.parameters if p.required}
    signed = [p for p in question.parameters if p.type == "signed_reduction" and p.default == "evidence"]
    found |= {p.name: "odd" for p in signed}  # the only signed score
    return found | ({"min_documents": 1} if question.parameter("min_documents") else {})


def store_of(path, count, classes, labels=True):
    documents = made_up_documents(
        count, labels=(*classes, None) if labels else (None,), predictions=classes, splits=("test", "train")
    )
    for document in documents:
        rest = (1 - document["probability"]) / (len(classes) - 1)
        document["probabilities"] = [
            document["probability"] if name == document["prediction"] else rest for name in classes
        ]
    write_store(path, documents, labels=classes, label_in_path=len(classes) < 10)
    store = open_store(path)
    written(store, measured_rows(range(count), ["cls_01", "rollout", "random"]))
    return store


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Stores of 2 and of 20 classes, and one of 2 without labels."""
    folder = tmp_path_factory.mktemp("stores")
    return {
        "2 classes": store_of(folder / "two", 60, ("neg", "pos")),
        "20 classes": store_of(folder / "twenty", 120, tuple(f"topic {n:02d}" for n in range(20))),
        "no labels": store_of(folder / "bare", 60, ("neg", "pos"), labels=False),
    }


@pytest.mark.sampled(2, first=1)
@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param("2 classes", marks=pytest.mark.exhaustive), "20 classes", "no labels"]
)
@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_has_a_chart_that_draws_its_answer(stores, name, kind, monkeypatch):
    """Every .sql has a .vl.json beside it. Its data are the answer's rows, and it has marks if there are any."""
    store, question = stores[kind], QUESTIONS[name]
    by_label = any(p.type == "class" and p.default == "label" for p in question.parameters)
    if kind == "no labels" and (by_label or "labels" in question.needs):
        with pytest.raises(UsageError, match="no document of this store has a label"):
            plot(store, question, given(question))
        return
    asked = []
    monkeypatch.setattr(
        "attnstore.show.plot.ask",  # Polars is faster here, with the same table
        lambda *what, **how: asked.append(what) or ask(*what, **how | {"engine": "polars"}),
    )
    drawn = plot(store, question, given(question))
    assert asked == [(store, question, own_parameters(read_chart(question)) | given(question))]
    rows = drawn.table.to_pylist()
    about = read_chart(question).get("usermeta", {}).get("attnstore", {})
    column, at_most = about.get("class"), about.get("at_most")
    data = json.loads(drawn.json())["data"]["values"]
    if column is not None:
        classes = {row[column] for row in data}
        assert len(classes) == min(at_most, len({row[column] for row in rows}))
        rows = [row for row in rows if row[column] in classes]
    assert data == [{name: json_value(value) for name, value in row.items()} for row in rows]
    svg = drawn.rendered("svg").decode()
    width = float(re.search(r'<svg [^>]*?width="([\d.]+)"', svg)[1])
    assert width < 3600
    assert bool(
        re.search(r'aria-roledescription="(point|bar|circle|rect mark|rect|text mark|line mark)"', svg)
    ) == bool(rows), "marks are drawn where there are rows, and only there"
    assert (
        f"based on {sum(1 for _ in documents_of(store)):,} documents"
        in json.loads(drawn.json())["description"]
    )


def documents_of(store):
    return range(store.manifest.documents)


def json_value(value):
    return None if value != value else value


def test_classes_have_the_models_order_and_each_its_colour():
    """The domain is the model's classes, then other classes of the data. A legend lists those that occur."""
    spec = {"encoding": {"color": {"field": "class"}, "x": {"field": "class"}, "y": {"field": "label"}}}
    table = pa.table({"class": ["pos", "neg"], "label": ["pos", "other"]})
    filled, notes = fill(spec, table, labels=("pos", "neu", "neg"))
    order = ["pos", "neu", "neg", "other"]
    assert filled["encoding"] == {
        "color": {"field": "class", "scale": {"domain": order}, "legend": {"values": ["pos", "neg"]}},
        "x": {"field": "class", "sort": order},
        "y": {"field": "label", "sort": order},
    }
    assert notes == []


def many(classes=150):
    """An answer with one row per class; later classes have more documents."""
    return pa.table({"class": [f"c{n:03d}" for n in range(classes)], "documents": list(range(classes))})


def test_a_chart_draws_the_largest_of_too_many_classes_and_says_so():
    """Of 150 classes, those with the most documents are drawn. The note says how to see others."""
    spec = {"usermeta": {"attnstore": {"class": "class", "at_most": 3}}, "mark": "bar"}
    filled, notes = fill(spec, many())
    assert [row["class"] for row in filled["data"]["values"]] == ["c147", "c148", "c149"]
    assert notes == ["3 of 150 classes are drawn, those with most documents; choose others with --class"]
    filled, notes = fill(spec, many(), only=["c001"])
    assert [row["class"] for row in filled["data"]["values"]] == ["c001"]
    assert notes == ["1 of 150 classes are drawn, as asked"]
    with pytest.raises(UsageError, match=r"^the answer has no class 'c999': it has c000, c001, "):
        fill(spec, many(), only=["c999"])
    with pytest.raises(UsageError, match=r"^this chart sets no classes apart: leave out which to draw$"):
        fill({"mark": "bar"}, many(), only=["c001"])


def test_the_row_of_all_classes_is_never_left_out():
    """It has the most documents. Beside it, the classes predicted most often are drawn, in the answer's order."""
    spec = {"usermeta": {"attnstore": {"class": "class", "at_most": 3}}, "mark": "bar"}
    table = pa.table({"class": [None, "a", "b", "c"], "predicted": [90, 20, 40, 30]})
    assert [row["class"] for row in fill(spec, table)[0]["data"]["values"]] == [None, "b", "c"]


def test_bands_of_very_many_classes_become_narrower():
    """150 classes along an axis take 960 pixels; three keep the chart's own width."""
    spec = {"width": {"step": 40}, "height": 100, "mark": "bar", "encoding": {"x": {"field": "class"}}}
    assert fill(spec, many(150))[0]["width"] == {"step": 6.4}
    assert fill(spec, many(3))[0]["width"] == {"step": 40}


def test_a_mark_with_a_tooltip_shows_the_whole_row():
    """All columns as Vega computes them: rounded numbers, a list in words, a dash for null; under any names."""
    names = ["word", "a.b[0]", "it's \"n\\", "list", "nothing"]
    row = ["film", 1.23456, 12345, ["a", "b"], None]
    table = pa.table({name: pa.array([value]) for name, value in zip(names, row, strict=True)})
    plain = {"mark": "rule", "encoding": {}}
    filled, _ = fill({"layer": [plain | {"mark": {"type": "text", "tooltip": True}}, plain]}, table)
    shown = filled["layer"][0]["mark"].pop("tooltip")["expr"]
    filled["layer"][0]["mark"]["text"] = {
        "expr": " + '|' + ".join(f"({shown})[{json.dumps(name)}]" for name in names)
    }
    assert ">film|1.235|12,345|a, b|–<" in vl_convert.vegalite_to_svg(json.dumps(filled))
    assert filled["layer"][1] == plain


def test_control_characters_in_a_chart_are_made_visible():
    """Control and bidirectional characters become visible. NaN, which JSON lacks, becomes null."""
    table = pa.table({"word": ["\x1b[31m\u202e映画", "</script>"], "lift": [float("nan"), float("inf")]})
    filled, _ = fill({"mark": "bar"}, table)
    assert filled["data"]["values"] == [
        {"word": "␛[31m⟨U+202E⟩映画", "lift": None},
        {"word": "</script>", "lift": None},
    ]


def test_an_empty_chart_says_why():
    """It has no axis or legend without a mark."""
    spec = {"$schema": "v6", "mark": "bar", "encoding": {"x": {"field": "class"}}}
    empty = {"$schema": "v6", "mark": "point", "data": {"values": []}}
    assert fill(spec, many(0)) == (empty, ["The answer has no rows: nothing is drawn."])


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        (None, "mine has no chart: put a Vega-Lite specification without data beside it, {path}"),
        (
            "{",
            "can't read {path}: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        (
            "[" * 100_000,
            "can't read {path}: maximum recursion depth exceeded while decoding a JSON array from a unicode string",
        ),
        ("[]", "{path} is not a Vega-Lite specification: it must be a JSON object"),
        (
            '{"layer": [{"data": {"url": "https://example.org/x.csv"}}]}',
            "{path} has its own data: leave data and url out, the answer is inserted",
        ),
        (
            '{"usermeta": {"attnstore": []}}',
            "{path}: usermeta.attnstore is an object with class, at_most and parameters",
        ),
    ],
)
def test_a_folder_of_custom_questions_may_contain_charts(tmp_path, content, refusal):
    """A question without a chart, or with an invalid one, is refused in one line that says what to do."""
    (tmp_path / "mine.sql").write_text("-- How many?\nSELECT count(*) AS n FROM documents")
    path = tmp_path / "mine.vl.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError) as refused:
        read_chart(get_question("mine", find_questions(tmp_path)))
    assert str(refused.value) == refusal.format(path=path)


def test_titles_of_narrow_views_are_wrapped():
    """At the width of their view, so that they do not run into each other.

    A chart's own header settings take precedence.
    """
    spec = {
        "facet": {"field": "class"},
        "spec": {"width": {"step": 32}, "encoding": {"x": {"field": "layer"}}},
    }
    table = pa.table(
        {"class": ["comp.sys.mac.hardware", "x", "x"], "layer": [1, 2, 3], "documents": [1, 1, 1]}
    )
    header = fill(spec, table)[0]["facet"]["header"]
    assert header == {
        "labelLimit": 96,
        "labelExpr": "length(datum.label) > 10 ? [slice(datum.label, 0, 10), slice(datum.label, 10, 20), "
        "slice(datum.label, 20, 30)] : datum.label",
    }
    own = {"facet": {"field": "class", "header": {"labelLimit": 5, "labelExpr": "''"}}, "spec": spec["spec"]}
    assert fill(own, table)[0]["facet"]["header"] == {"labelLimit": 5, "labelExpr": "''"}
    assert fill(spec, table.slice(1))[0]["facet"]["header"] == {"labelLimit": 64}


def test_values_that_are_not_shares_have_no_reference_line():
    """The axis is named after the value, and there is no line at 1. A chart of shares is unchanged."""
    line = {"mark": "rule", "encoding": {"x": {"datum": 1}, "y": None}}
    points = {"encoding": {"x": {"field": "lift", "title": "lift (1 is an even share), 95 % interval"}}}
    spec, table = {"layer": [line, points]}, pa.table({"lift": [1.0]})
    share = StoredReduction("cls", True, False, "")
    norm = StoredReduction("norm", True, False, "", total=None)
    evidence = StoredReduction("evidence", False, False, "", total=None, signed=True)
    for of, title in ((norm, "value × length, 95 % interval"), (evidence, "value, 95 % interval")):
        (drawn,) = fill(spec, table, of=of)[0]["layer"]
        assert drawn["encoding"]["x"]["title"] == title
    assert fill(spec, table, of=share)[0]["layer"] == spec["layer"]
