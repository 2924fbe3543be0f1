"""The tokens summed, one row per term, in a sealed store's file and in a view of an unfinished store."""

import hashlib
import io
import json
from collections import defaultdict

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from asked_store import HEADS, LAYERS, REDUCTIONS, made_up_documents, write_store
from small_store import manifest, run

import attnstore
from attnstore.ask.sql import connect, run_sql
from attnstore.check.verify import verify_files
from attnstore.errors import StoreError
from attnstore.store import adding
from attnstore.store import parquet as parquet_module
from attnstore.store.frames import QuestionColumns, totals
from attnstore.store.parquet import write_parquet
from attnstore.store.resume import create_or_resume
from attnstore.store.store import Store, open_store
from attnstore.store.totals import COUNTS, KEYS

COLUMNS = [column for reduction in REDUCTIONS for column in reduction.columns(LAYERS)]


def by_hand(documents):
    """The rows of the totals of these documents, from one token after the other."""
    sums: dict = defaultdict(lambda: defaultdict(float))
    for document in documents:
        length = len(document["tokens"])
        seen_tokens, seen_words = set(), set()
        for row in document["tokens"]:
            absent = tuple(row[column] is None for column in COLUMNS)
            term = tuple(row[name] for name in ("token", "word", "piece", "pieces", "special"))
            of_term = sums[(document["split"], document["label"], document["prediction"], *term), absent]
            of_term["occurrences"] += 1
            of_term["new_token"] += row["token"] not in seen_tokens
            of_term["new_word"] += row["piece"] == 0 and row["word"] not in seen_words
            seen_tokens.add(row["token"])
            if row["piece"] == 0:
                seen_words.add(row["word"])
            for column in COLUMNS:
                if row[column] is not None:
                    value = np.array(row[column], np.float64)  # a number, or one per head
                    of_term[column] = of_term[column] + value
                    of_term[f"{column}_lift"] = of_term[f"{column}_lift"] + value * length
    rows = [{**dict(zip(KEYS, key, strict=True)), **values} for (key, _), values in sums.items()]
    names = [*KEYS, *COUNTS, *(n for c in COLUMNS for n in (c, f"{c}_lift"))]
    return sorted(({name: row.get(name) for name in names} for row in rows), key=place)


def place(row):
    """The sort key: the key columns, nulls last, and terms without values after those with values."""
    keys = [(row[name] is None, row[name] if row[name] is not None else "") for name in KEYS]
    return keys, [row[column] is None for column in COLUMNS]


def assert_same(found, wanted):
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert list(ours) == list(theirs)
        for name, value in theirs.items():
            if isinstance(value, np.ndarray | np.float64):
                assert ours[name] == pytest.approx(value.tolist(), rel=1e-6, abs=1e-6), name
            else:
                assert ours[name] == value, name


@pytest.fixture(scope="module", params=[True, False], ids=["labels in the path", "labels in a column"])
def made_up(request, tmp_path_factory):
    documents = made_up_documents(60, splits=("train", "test"))
    path = tmp_path_factory.mktemp("totals") / "s"
    return documents, write_store(path, documents, label_in_path=request.param, part_size=7)


@pytest.mark.slow
def test_a_sealed_store_has_totals_of_its_tokens(made_up):
    """One row per split, label, prediction and token with its position in a word.

    Missing values are counted separately.
    """
    documents, store = made_up
    assert any(row["odd"] is None for row in by_hand(documents))
    with pq.ParquetFile(store.path / "totals.parquet") as file:
        assert file.schema_arrow.equals(store.totals_schema)
        meanings = {field.name: field.metadata[b"meaning"].decode() for field in file.schema_arrow}
        assert meanings["cls_02_lift"] == "times the length, summed: attention from [CLS], layer 2 of 3"
        assert_same(file.read().to_pylist(), by_hand(documents))


@pytest.mark.slow
def test_both_engines_read_the_totals(made_up):
    """The view and the lazy frame have the contract's columns, and those that questions add."""
    documents, store = made_up
    wanted = by_hand(documents)
    found = run_sql(store, "SELECT * FROM totals").to_pylist()
    assert_same(sorted(found, key=place), wanted)
    assert_same(sorted(totals(store).collect().to_dicts(), key=place), wanted)
    added = QuestionColumns(means={"attention": ("cls_01", "cls_03")}, class_column="label")
    frame = totals(store, added).collect().to_dicts()
    with connect(store, added) as connection:
        view = connection.sql("SELECT * FROM totals").to_arrow_table().to_pylist()
    for rows in (frame, view):
        assert len(rows) == len(wanted)
        for row in rows:
            assert row["class"] == row["label"]
            assert row["attention"] == pytest.approx((row["cls_01"] + row["cls_03"]) / 2)
            assert row["attention_lift"] == pytest.approx((row["cls_01_lift"] + row["cls_03_lift"]) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [[], [0, 2]], ids=["nothing", "two parts"])
def test_an_unfinished_store_computes_totals_on_demand(tmp_path, parts):
    """Without a file of totals, both engines compute them from the finished parts."""
    documents = made_up_documents(60)
    store = write_store(tmp_path / "s", documents, parts=parts, part_size=20)
    there = [documents[number] for part in parts for number in store.part_range(part)]
    assert not (store.path / "totals.parquet").exists()
    for rows in (run_sql(store, "SELECT * FROM totals").to_pylist(), totals(store).collect().to_dicts()):
        assert_same(sorted(rows, key=place), by_hand(there))


@pytest.mark.sampled(at=(0, 2, 4))
@pytest.mark.parametrize(
    ("runs", "changed"),
    [
        (1, {}),
        (9, {"_SUMS_IN_MEMORY": 1}),
        (9, {"_SUMS_IN_MEMORY": 1, "_OF_A_BATCH": 300, "_AT_A_TIME": 3000, "_RUNS": 3}),
    ],
    ids=["in memory", "in runs", "in runs of small batches, merged three at a time"],
)
def test_the_number_of_sorted_runs_changes_no_total(made_up, tmp_path, monkeypatch, runs, changed):
    """The totals equal the file's to the bit, however few of them are in memory at a time."""
    _, store = made_up
    for name, value in changed.items():
        monkeypatch.setattr(adding, name, value)
    written = adding._written
    names = []

    def watched(*given):
        names.append(written(*given))
        return names[-1]

    monkeypatch.setattr(adding, "_written", watched)
    content = io.BytesIO()
    write_parquet(store.added_up(tmp_path), store.totals_schema, content)
    assert content.getvalue() == (store.path / "totals.parquet").read_bytes()
    assert len(names) >= runs if changed else not names


def test_rows_beyond_a_row_group_are_written_as_they_come(made_up, tmp_path, monkeypatch):
    """Whatever tables they come in, the bytes are the same, in row groups of the given size, each with its
    dictionaries.
    """
    _, store = made_up
    monkeypatch.setattr(parquet_module, "ROW_GROUP_ROWS", 50)
    whole = pa.concat_tables(store.added_up()).unify_dictionaries()
    contents = []
    for rows in (whole.num_rows, 50, 7):
        content = io.BytesIO()
        tables = (whole.slice(start, rows) for start in range(0, whole.num_rows, rows))
        assert write_parquet(tables, store.totals_schema, content) == whole.num_rows
        contents.append(content.getvalue())
    assert contents[0] == contents[1] == contents[2]
    found = pq.ParquetFile(io.BytesIO(contents[0]))
    assert found.num_row_groups == -(-whole.num_rows // 50) > 1
    assert found.read().to_pylist() == whole.to_pylist()


@pytest.mark.slow
def test_an_interrupted_sealing_is_repeated(tmp_path):
    """Totals without a seal belong to no store: verify reports them, and the next run removes them first."""
    store = run(tmp_path / "s", manifest(), seal=False)
    left = store.path / "totals.parquet"
    left.write_bytes(b"of another set of parts")
    (finding,) = (
        found for found in verify_files(open_store(store.path)) if found.subject == "totals.parquet"
    )
    assert (finding.ok, finding.detail) == (
        True, "of a sealing that was not finished when the store was opened",
    )  # fmt: skip
    assert totals(open_store(store.path)).collect().height > 0
    create_or_resume(store.path, manifest()).close()
    assert not left.exists()
    assert run(store.path, manifest()).totals_file() == left
    assert pq.read_metadata(left).num_rows > 0


def test_damaged_tokens_are_reported_when_they_are_added_up(tmp_path):
    """Sealing, and every question to an unfinished store, names the store in one line, without a traceback."""
    store = run(tmp_path / "s", manifest(), seal=False)
    path = store.tokens_files()[0]
    path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8)
    for ask in (
        lambda: list(store.added_up()),
        lambda: run_sql(store, "SELECT count(*) FROM documents"),
        lambda: attnstore.open(store.path).query("sinks", engine="polars"),
    ):
        with pytest.raises(StoreError, match=r"can't read .*`attnstore verify` finds the damage") as refused:
            ask()
        assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_totals_that_do_not_match_the_tokens_do_not_seal_a_store(tmp_path, monkeypatch):
    """Totals of other columns, or of more or fewer tokens, are refused, and the store stays open."""
    store = write_store(tmp_path / "s", made_up_documents(30), part_size=25, parts=[0, 1])
    right = pa.concat_tables(store.added_up())
    with create_or_resume(store.path, store.manifest) as writer:
        for wrong, wording in (
            (right.slice(1), "tokens, the parts have"),
            (right.drop_columns("odd"), "'odd' is missing"),
        ):
            monkeypatch.setattr(Store, "added_up", lambda _, __, wrong=wrong: iter([wrong]))
            with pytest.raises(StoreError, match=wording):
                writer.seal()
        assert not open_store(store.path).sealed
        monkeypatch.undo()
        writer.seal()
    assert open_store(store.path).sealed


def tampered(store, change):
    """The store with its totals rewritten by `change`, and a manifest that agrees with them."""
    path = store.path / "totals.parquet"
    with pq.ParquetFile(path) as file:
        table = change(file.read())
    pq.write_table(table, path)
    manifest = json.loads((store.path / "manifest.json").read_text())
    (entry,) = (file for file in manifest["files"] if file["path"] == path.name)
    entry["bytes"], entry["rows"] = path.stat().st_size, table.num_rows
    entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (store.path / "manifest.json").write_text(json.dumps(manifest))
    return open_store(store.path)


def a_little_more(table):
    column = table.schema.get_field_index("cls_02_lift")
    values = np.array(table["cls_02_lift"].to_numpy())
    values[len(values) // 2] *= 1.01
    return table.set_column(column, table.schema.field(column), [values])


def one_more(table):
    column = table.schema.get_field_index("new_word")
    values = np.array(table["new_word"].to_numpy())
    values[0] += 1
    return table.set_column(column, table.schema.field(column), [values])


@pytest.mark.sampled(2)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "wording"),
    [
        (lambda table: table, None),
        (a_little_more, "cls_02_lift is not what the tokens add up to"),
        (one_more, "new_word is not what the tokens add up to"),
        (lambda table: table.slice(1), "split is not what the tokens add up to"),
    ],
)
def test_verify_computes_the_totals_again(tmp_path, change, wording):
    """Totals that differ from those of the tokens are a finding, even if size and hash are as recorded."""
    store = tampered(run(tmp_path / "s", manifest()), change)
    (finding,) = (finding for finding in verify_files(store) if finding.subject == "totals.parquet")
    assert (finding.ok, finding.detail) == ((False, wording) if wording else (True, finding.detail))
    assert wording is not None or finding.detail.endswith(" terms")


@pytest.mark.slow
def test_missing_or_damaged_totals_are_reported(tmp_path):
    """A question that needs them reports it in one line; verify names the file."""
    store = write_store(tmp_path / "s", made_up_documents(30))
    path = store.path / "totals.parquet"
    path.write_bytes(path.read_bytes()[:-9] + b"\0" * 9)
    (finding,) = (finding for finding in verify_files(store) if finding.subject == "totals.parquet")
    assert (finding.ok, finding.detail) == (False, "its SHA-256 is not the one recorded: it is damaged")
    path.unlink()
    (finding,) = (finding for finding in verify_files(store) if finding.subject == "totals.parquet")
    assert (finding.ok, finding.detail) == (False, "is missing")
    reader = attnstore.open(store.path)
    for engine in ("duckdb", "polars"):
        with pytest.raises(StoreError, match=r"totals\.parquet is missing.*verify"):
            reader.query("top_words_by_class", engine=engine, intervals=False)


def test_a_term_has_totals_per_head(made_up):
    """A reduction with a value per head is summed head by head. Questions use one head, or the mean of the heads."""
    documents, store = made_up
    added = QuestionColumns(
        means={"attention": ("cls_heads_02",)}, heads=HEADS, elements={"attention_02_02": ("cls_heads_02", 1)}
    )
    rows = [(row["cls_heads_02"], len(d["tokens"])) for d in documents for row in d["tokens"]]
    wanted = [sum(sum(heads) / HEADS * n for heads, n in rows), sum(heads[1] * n for heads, n in rows)]
    names = ["attention_lift", "attention_02_02_lift"]
    frame = totals(store, added).select(pl.col(names).sum()).collect().row(0)
    with connect(store, added) as connection:
        sql = f"SELECT {', '.join(f'sum({name})' for name in names)} FROM totals"  # noqa: S608 - names of ours
        (view,) = connection.sql(sql).fetchall()
    assert list(frame) == pytest.approx(wanted, rel=1e-6)
    assert list(view) == pytest.approx(wanted, rel=1e-6)


def test_no_two_terms_have_the_same_number():
    """Numbers of tokens, words and shapes up to the largest possible ones, and those at which the packing changes."""
    each = np.array(
        [0, 1, (1 << 19) - 1, 1 << 19, (1 << 20) - 1, 1 << 20, (1 << 24) - 1, 1 << 24, (1 << 31) - 1]
    )
    token, word, shape = (axis.reshape(-1) for axis in np.meshgrid(each, each, each))
    keys = adding.packed(token, word, shape)
    assert len(set(keys)) == len(each) ** 3
    alone = [adding.packed(*(row[at : at + 1] for row in (token, word, shape)))[0] for at in range(len(keys))]
    assert alone == keys  # whatever the other fields are
