"""The question `faithfulness` and the best score: DuckDB, Polars and brute force give the same results."""

import math
from collections import defaultdict

import numpy as np
import pytest
import scipy.stats
from asked_store import cluster_of, made_up_documents, write_store
from measured_store import measured_rows, written

from attnstore.ask.answer import BASIS_KEY, ask
from attnstore.ask.faithful import best_score
from attnstore.ask.questions import find_questions
from attnstore.ask.script import script
from attnstore.ask.sql import run_sql
from attnstore.errors import UsageError
from attnstore.reader import Reader
from attnstore.store.store import open_store

QUESTIONS = find_questions()
SCORES = ["cls_01", "cls_02", "cls_03", "rollout", "random", "log_odds"]


@pytest.fixture(scope="module")
def documents():
    return made_up_documents(60, splits=("train", "test"))


@pytest.fixture(scope="module")
def rows():
    """Two files: deletion of tokens, for one score on fewer documents, and some masking of words."""
    return [
        *measured_rows(range(0, 60, 2), SCORES[:-1]),
        *measured_rows(range(20), ["log_odds"], seed=1),
        *measured_rows(range(9), ["cls_01", "random"], by="mask", unit="word", seed=2),
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory, documents, rows):
    path = tmp_path_factory.mktemp("faithful") / "store"
    write_store(path, documents)
    opened = open_store(path)
    for way in ("deletion", "mask"):
        written(opened, [row for row in rows if row["by"] == way])
    return opened


@pytest.fixture
def unmeasured(tmp_path, documents):
    write_store(tmp_path / "store", documents)
    return open_store(tmp_path / "store")


def estimate(values, owners):
    """The mean, half the width of its interval, p against 0, and the number of clusters, from residuals by cluster."""
    mean = sum(values) / len(values)
    residual, size = defaultdict(float), defaultdict(int)
    for value, owner in zip(values, owners, strict=True):
        residual[owner] += value - mean
        size[owner] += 1
    effective = 1 / sum((n / len(values)) ** 2 for n in size.values())
    if effective < 2 - 1e-9:
        return mean, None, None, len(size)
    error = math.sqrt(effective / (effective - 1) * sum(r * r for r in residual.values())) / len(values)
    p = 2 * scipy.stats.t.sf(abs(mean) / error, effective - 1) if error > 1e-7 else None
    return mean, scipy.stats.t.ppf(0.975, effective - 1) * error, p, len(size)


def faithfulness(rows, documents, *, removal="deletion", unit="token", against="random", rows_="all", by="prediction",
                 cluster="group", labels_are_models=True):  # fmt: skip
    of_score = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if (row["by"], row["unit"]) == (removal, unit):
            of_score[row["score"]][row["document"]].append(row)

    def mean(these, column):
        return float(np.mean([np.float32(row[column]) for row in these], dtype=np.float64))

    def part_of(number):
        document = documents[number]
        if rows_ == "class":
            return document[by]
        if rows_ == "outcome":
            known = labels_are_models and document["label"] is not None
            return ("right" if document["prediction"] == document["label"] else "wrong") if known else None
        return "all"

    found = []
    for part in {part_of(n) for n in range(len(documents))} - {None}:
        of_part = []
        for score, of_document in of_score.items():
            numbers = [n for n in of_document if part_of(n) == part]
            if not numbers:
                continue
            owners = [cluster_of(documents, n, cluster) for n in numbers]
            area = {n: mean(of_document[n], "comprehensiveness") for n in numbers}
            flips = [mean([r for r in of_document[n] if r["fraction"] == 0.2], "flipped") for n in numbers]
            c, c_half, _, clusters = estimate(list(area.values()), owners)
            s, s_half, *_ = estimate([mean(of_document[n], "sufficiency") for n in numbers], owners)
            f, f_half, *_ = estimate(flips, owners)
            other = of_score[against]
            both = [n for n in numbers if n in other]
            differences = [area[n] - mean(other[n], "comprehensiveness") for n in both]
            d, d_half, p, _ = (
                estimate(differences, [cluster_of(documents, n, cluster) for n in both])
                if both
                else [None] * 4
            )

            def ends(mean, half):
                return (None, None) if half is None else (mean - half, mean + half)

            f_low, f_high = ends(f, f_half)
            of_part.append(
                {"part": part, "score": score, "documents": len(numbers), "clusters": clusters,
                 "comprehensiveness": c, "low": ends(c, c_half)[0], "high": ends(c, c_half)[1],
                 "sufficiency": s, "sufficiency_low": ends(s, s_half)[0], "sufficiency_high": ends(s, s_half)[1],
                 "flips": f, "flips_low": None if f_low is None else max(0, f_low),
                 "flips_high": None if f_high is None else min(1, f_high),
                 "difference": d, "difference_low": ends(d, d_half)[0], "difference_high": ends(d, d_half)[1],
                 "p": p}
            )  # fmt: skip
        tested = [row for row in of_part if row["p"] is not None]
        adjusted = scipy.stats.false_discovery_control([row["p"] for row in tested]) if tested else []
        for row in of_part:
            row["q"] = None
        for row, q in zip(tested, adjusted, strict=True):
            row["q"] = q
        found += of_part
    return sorted(found, key=lambda row: (row["part"], -row["comprehensiveness"], row["score"]))


@pytest.mark.sampled(at=(2, 3, 4))
@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"rows": "class"},
        {"rows": "class", "by": "label", "against": "log_odds"},
        {"rows": "outcome", "against": "cls_03", "cluster": "document"},
        {"removal": "mask", "unit": "word", "against": "cls_01"},
        {"removal": "mask", "unit": "token"},
    ],
)
def test_the_answer_is_the_one_by_brute_force(store, documents, rows, given):
    """Means over documents, intervals and paired differences by film; no rows for what was not measured."""
    expected = faithfulness(rows, documents, **{"rows_" if k == "rows" else k: v for k, v in given.items()})
    assert (expected == []) == (given.get("removal") == "mask" and given["unit"] == "token")
    one, other = (ask(store, QUESTIONS["faithfulness"], given, engine) for engine in ("duckdb", "polars"))
    assert one.schema.equals(other.schema)
    for answer in (one, other):
        said = answer.schema.metadata[BASIS_KEY].decode()
        assert said.startswith("60 documents, faithfulness measured in 40, removal=")
        assert [row["score"] for row in answer.to_pylist()] == [row["score"] for row in expected]
        for row, wanted in zip(answer.to_pylist(), expected, strict=True):
            assert row == {
                name: pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value
                for name, value in wanted.items()
            }


@pytest.mark.slow
def test_one_document_has_means_and_no_interval(unmeasured, documents):
    """Other documents do not matter, in either engine."""
    rows = measured_rows([3], ["cls_01", "random"])
    written(unmeasured, rows)
    expected = faithfulness(rows, documents)
    assert {row[name] for row in expected for name in ("low", "flips_low", "flips_high", "p", "q")} == {None}
    for engine in ("duckdb", "polars"):
        found = ask(unmeasured, QUESTIONS["faithfulness"], {}, engine).to_pylist()
        assert found == [
            {name: pytest.approx(v, abs=1e-6) if isinstance(v, float) else v for name, v in row.items()}
            for row in expected
        ]


@pytest.mark.slow
def test_labels_that_are_not_the_models_make_nothing_right_or_wrong(tmp_path, documents, rows):
    """No rows, in both engines."""
    write_store(tmp_path / "store", documents, labels_are_models=False)
    store = open_store(tmp_path / "store")
    written(store, rows[:400])
    for engine in ("duckdb", "polars"):
        assert ask(store, QUESTIONS["faithfulness"], {"rows": "outcome"}, engine).num_rows == 0


@pytest.mark.slow
def test_without_the_table_one_line_says_how_to_make_it(unmeasured):
    """In both engines, in SQL, as a script, from Python, and for layer=best."""
    question, words = QUESTIONS["faithfulness"], QUESTIONS["top_words_by_class"]
    command = f"`attnstore faithfulness {unmeasured.path}` does that"
    for asked in (
        lambda: ask(unmeasured, question, {}, "duckdb"),
        lambda: ask(unmeasured, question, {}, "polars"),
        lambda: run_sql(unmeasured, "SELECT count(*) FROM Faithfulness"),
        lambda: script(unmeasured, question),
        lambda: Reader(unmeasured.path).faithfulness(),
        lambda: ask(unmeasured, words, {"layer": "best"}),
        lambda: Reader(unmeasured.path).show(3, reduction="cls", layer="best"),
    ):
        with pytest.raises(UsageError) as caught:
            asked()
        assert str(caught.value) == f"faithfulness has not been measured in this store: {command}"


@pytest.mark.slow
def test_the_view_and_the_frame_hold_the_rows(store, rows):
    """Every row that was written, from SQL and from Polars."""
    key = ["document", "score", "draw", "by", "unit", "fraction"]
    wanted = sorted(tuple(row[name] for name in key) for row in rows)
    sql = 'SELECT document, score, draw, "by", unit, fraction FROM faithfulness'
    found = run_sql(store, sql).to_pylist()
    assert sorted(tuple(row.values()) for row in found) == wanted
    assert sorted(Reader(store.path).faithfulness().select(key).collect().rows()) == wanted


def test_a_score_that_was_not_measured_is_refused(store):
    """The error lists the measured ones."""
    with pytest.raises(UsageError) as caught:
        ask(store, QUESTIONS["faithfulness"], {"against": "cls_04"})
    assert str(caught.value) == (
        "against=cls_04 does not fit: it has not been measured: did you mean cls_03 or cls_02 or cls_01?"
    )


# -- the best score ---------------------------------------------------------------------------------------


def test_the_best_score_is_chosen_on_one_half_and_reported_on_the_other(store, documents, rows):
    """Halves of whole films: the highest mean on one half, with its mean and interval on the other."""
    best = best_score(store)
    area = defaultdict(list)
    for row in rows:
        if row["by"] == "deletion" and row["score"] not in ("random", "log_odds"):
            area[row["document"], row["score"]].append(np.float32(row["comprehensiveness"]))
    first = {}  # the first document of each film
    for number in range(len(documents)):
        first.setdefault(cluster_of(documents, number), number)
    of_document = {n: first[cluster_of(documents, n)] for n, _ in area}
    clusters = sorted(set(of_document.values()))
    chooses = set(np.random.default_rng(0).permutation(clusters)[: math.ceil(len(clusters) / 2)].tolist())

    def values(score, half):
        numbers = [n for n, name in area if name == score and (of_document[n] in chooses) == half]
        return [float(np.mean(area[n, score], dtype=np.float64)) for n in numbers], [
            of_document[n] for n in numbers
        ]

    names = ["cls_01", "cls_02", "cls_03", "rollout"]
    chosen = max(names, key=lambda name: np.mean(values(name, True)[0]))
    mean, half, *_ = estimate(*values(chosen, False))
    found = (
        best.score,
        best.among,
        best.chosen_on,
        best.documents,
        best.comprehensiveness,
        best.low,
        best.high,
    )
    documents_of = [len(values(chosen, half)[0]) for half in (True, False)]
    assert found == (
        chosen,
        4,
        *documents_of,
        *(pytest.approx(each) for each in (mean, mean - half, mean + half)),
    )


@pytest.mark.slow
def test_the_best_layer_may_be_asked_for(tmp_path, documents):
    """layer=best is the best layer of that reduction, and the answer says which one."""
    rows = measured_rows(range(40), ["cls_01", "cls_02", "cls_03"])
    rows = [row | {"comprehensiveness": 0.5 if row["score"] == "cls_02" else 0.1} for row in rows]
    write_store(tmp_path / "store", documents)
    store = open_store(tmp_path / "store")
    written(store, rows)
    words = QUESTIONS["top_words_by_class"]
    for engine in ("duckdb", "polars"):
        best, second = (ask(store, words, {"layer": layer}, engine) for layer in ("best", "2"))
        assert best.schema.metadata == second.schema.metadata
        columns = ["class", "word", "documents", "occurrences"]
        assert best.select(columns).equals(second.select(columns))
        assert "layer=2," in best.schema.metadata[BASIS_KEY].decode()
        assert "layer=best" not in best.schema.metadata[BASIS_KEY].decode()
        for given in ({}, {"layer": "mean"}):
            said = ask(store, words, given, engine).schema.metadata[BASIS_KEY].decode()
            assert said.endswith("; layer=best would be 2")
    reader = Reader(store.path)
    assert str(reader.show(3, reduction="cls", layer="best")) == str(reader.show(3, reduction="cls", layer=2))
    # A reduction without layers has no layer to choose.
    assert ask(store, words, {"layer": "best", "reduction": "rollout"}).num_rows > 0
    with pytest.raises(UsageError) as caught:
        ask(store, words, {"layer": "best", "reduction": "cls_heads"})
    assert str(caught.value) == (
        "cls_heads has no best layer: faithfulness is of scores of one value per token, it has one per head"
    )


@pytest.mark.slow
def test_the_best_layer_needs_measurements_of_all_layers(tmp_path, documents):
    """layer=best needs all layers, on the same documents."""
    write_store(tmp_path / "store", documents)
    store = open_store(tmp_path / "store")
    written(store, measured_rows(range(20), ["cls_01", "cls_02"]))
    with pytest.raises(UsageError) as caught:
        ask(store, QUESTIONS["top_words_by_class"], {"layer": "best"})
    assert str(caught.value) == (
        f"faithfulness has not been measured for cls_03: `attnstore faithfulness {store.path}` does that"
    )
    assert b"best" not in ask(store, QUESTIONS["top_words_by_class"], {}).schema.metadata[BASIS_KEY]
