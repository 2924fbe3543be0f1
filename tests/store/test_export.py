"""A store exported as a data set for the hub: the same rows, with `split` and `label` in the files; still a store."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from command_line import attnstore
from measured_store import measured_rows, written
from polars.testing import assert_frame_equal
from small_store import LABELS, contents, manifest, resealed, run, tables

from attnstore.check.measured import verify_faithfulness
from attnstore.check.verify import verify_files
from attnstore.errors import StoreError
from attnstore.reader import Reader
from attnstore.show.dataset_card import dataset_card
from attnstore.store.export import export
from attnstore.store.resume import create_or_resume
from attnstore.store.store import open_store


@pytest.fixture
def store(tmp_path):
    """Ten documents in two splits with odd names, three of them without a label."""
    plan = manifest()
    with create_or_resume(tmp_path / "run.attn", plan) as made:
        for part in made.missing_parts():
            numbers = made.part_range(part)
            halves = [
                tables(plan, [n for n in numbers if n % 2 == odd], LABELS, split)
                for odd, split in enumerate(("a b/c", "a-b"))
            ]
            documents, tokens = (pa.concat_tables(both) for both in zip(*halves, strict=True))
            made.write_part(
                part,
                documents.sort_by("document"),
                tokens.sort_by([("document", "ascending"), ("position", "ascending")]),
            )
        made.seal(sealed="2026-01-02T03:04:06+00:00")
    return made


def frames(store):
    reader = Reader(store.path)
    return {
        name: getattr(reader, name)().collect().sort(*keys)
        for name, keys in (
            ("documents", ["document"]),
            ("tokens", ["document", "position"]),
            ("totals", ["split", "label", "prediction", "token", "word", "piece", "pieces", "special"]),
        )
    }


@pytest.mark.slow
def test_an_export_is_the_store_with_its_keys_in_the_files(store, tmp_path):
    """Every value is unchanged, in both engines.

    The export is sound, and each file has the split and label of its documents.
    """
    made = export(store, tmp_path / "out")
    before, after = frames(store), frames(made)
    for name, frame in before.items():
        assert_frame_equal(after[name], frame, check_exact=name != "totals")
    by_number = {row["document"]: row for row in before["documents"].iter_rows(named=True)}
    files = [file.path for file in made.files() if file.path != "totals.parquet"]
    assert len(files) == 12  # two tables, three parts, two splits
    for path in files:
        rows = pq.ParquetFile(made.path / path).read(columns=["document", "split", "label"]).to_pylist()
        assert all(row == {key: by_number[row["document"]][key] for key in row} for row in rows)
    assert [finding for finding in verify_files(open_store(made.path)) if not finding.ok] == []
    sql = "SELECT split, label, count(*) AS n, sum(odd) AS odd FROM tokens GROUP BY ALL ORDER BY ALL"
    assert Reader(made.path).sql(sql).to_pylist() == Reader(store.path).sql(sql).to_pylist()
    assert made.manifest.sealed == store.manifest.sealed
    assert contents(export(made, tmp_path / "again").path) == contents(made.path)


@pytest.mark.slow
def test_an_interrupted_export_resumes_to_the_same_bytes(store, tmp_path):
    """With the same command. An export does not go into a store of another kind."""

    class GoneError(Exception):
        pass

    def ends(event):
        if event.documents == 8:
            raise GoneError

    with pytest.raises(GoneError):
        export(store, tmp_path / "out", ends)
    done = []
    assert contents(export(store, tmp_path / "out", done.append).path) == contents(
        export(store, tmp_path / "whole").path
    )
    assert [event.documents for event in done] == [10]
    with pytest.raises(
        StoreError, match=r"holds another run: label_in_path is true in the store, false in this run"
    ):
        export(store, store.path)


@pytest.mark.slow
def test_damaged_and_unfinished_stores_are_not_exported(store, tmp_path):
    """For a file with other bytes, or an unsealed store, the error is one line and nothing is sealed."""
    with pytest.raises(
        StoreError, match=r"is not sealed: `attnstore run` with the same options finishes it first"
    ):
        export(run(tmp_path / "open.attn", manifest(), seal=False), tmp_path / "a")
    name = next(file.path for file in store.files() if file.path.startswith("tokens/"))
    content = bytearray((store.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (store.path / name).write_bytes(content)
    with pytest.raises(StoreError, match=r"its SHA-256 is not the one recorded: it is damaged"):
        export(store, tmp_path / "out")
    assert not open_store(tmp_path / "out").sealed


@pytest.mark.slow
@pytest.mark.parametrize("key", ["split", "label"])
@pytest.mark.parametrize("table", ["documents", "tokens"])
def test_wrong_keys_are_found(store, tmp_path, key, table):
    """A split other than the path's, a label other than the document's, and labels that differ from the totals."""
    made = export(store, tmp_path / "out")
    name = next(file.path for file in made.files() if file.path.startswith(table))
    read = pq.ParquetFile(made.path / name).read()
    place = read.schema.get_field_index(key)
    other = pa.array(["pos"] * len(read)).dictionary_encode().cast(read.schema.field(key).type)
    sink = pa.BufferOutputStream()
    pq.write_table(read.set_column(place, read.schema.field(key), other), sink)
    resealed(made.path, name, sink.getvalue().to_pybytes())
    faults = [finding.detail for finding in verify_files(open_store(made.path)) if not finding.ok]
    if (table, key) == ("documents", "split"):
        assert faults[0] == "split: it is not the one in the path"
    else:
        assert faults[0].startswith(f"the {key} is not the document's")


@pytest.mark.slow
def test_faithfulness_is_exported(store, tmp_path):
    """The table and its receipts, with the same rows, as `verify` reads them."""
    written(store, measured_rows(range(10), ("cls_01", "random")))
    made = export(store, tmp_path / "out")
    assert_frame_equal(
        Reader(made.path).faithfulness().collect(), Reader(store.path).faithfulness().collect()
    )
    found = [[(f.subject, f.ok, f.detail) for f in verify_faithfulness(s)] for s in (made, store)]
    assert found[0] == found[1]
    assert found[0] != []


@pytest.mark.slow
def test_datasets_reads_an_export(small_store, tmp_path, monkeypatch):
    """`load_dataset` of each table gives every row and column, including split and gold label."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("attnstore.show.report.report", lambda _: "")  # which is no table
    code, out, err = attnstore("export", small_store, tmp_path / "out", "--quiet")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].endswith("60 documents, 7 files, a card, a report")
    original = frames(open_store(small_store))
    for table, frame in original.items():
        loaded = datasets.load_dataset(str(tmp_path / "out"), table, cache_dir=str(tmp_path / "cache"))
        assert list(loaded) == ["totals" if table == "totals" else "all_documents"]
        (rows,) = loaded.values()
        found = rows.to_polars().select(frame.columns).cast(frame.schema)
        keys = [name for name in ("split", "label", "document", "position") if name in frame.columns]
        keys += ["prediction", "token", "word", "piece", "pieces", "special"] if table == "totals" else []
        assert_frame_equal(
            found.sort(*keys), frame.sort(*keys), check_exact=table != "totals", categorical_as_str=True
        )
    assert sorted(loaded["totals"].unique("label")) == ["neg", "pos"]


@pytest.mark.slow
def test_the_card_names_every_file_and_column_and_escapes_markup(store, tmp_path):
    """Splits get names that the hub accepts. Text from the manifest is shown as text, even if it looks like markup."""
    made = export(store, tmp_path / "out")
    card = dataset_card(made, "me/reviews", "cc-by-4.0", report="report.html")
    head, body = card.removeprefix("---\n").split("---\n\n", 1)
    read = yaml.safe_load(head)
    assert (read["license"], read["size_categories"]) == ("cc-by-4.0", ["n<1K"])
    assert read["configs"][0] == {
        "config_name": "documents",
        "default": True,
        "data_files": [
            {"split": "a_b_c", "path": "documents/split=a%20b%2Fc/*.parquet"},
            {"split": "a_b", "path": "documents/split=a-b/*.parquet"},
        ],
    }
    matched = {
        path.relative_to(made.path).as_posix()
        for each in read["configs"]
        for files in each["data_files"]
        for path in made.path.glob(files["path"])
    }
    assert matched == {file.path for file in made.files()}
    for schema in (made.documents_schema, made.tokens_schema, made.totals_schema):
        assert all(f"| `{name}` |" in body for name in schema.names)
    assert 'attnstore.open("hf://datasets/me/reviews")' in body
    odd = "<img src=x onerror=alert(1)> [a](http://b) | `c` \n# d"
    raw = json.loads((made.path / "manifest.json").read_text()) | {"model": odd}
    (made.path / "manifest.json").write_text(json.dumps(raw))
    (line,) = (
        line
        for line in dataset_card(open_store(made.path), "out").splitlines()
        if line.startswith("| model |")
    )
    assert line == (r"| model | &lt;img src=x onerror=alert(1)&gt; \[a\](http://b) \| \`c\` ␊\# d |")
