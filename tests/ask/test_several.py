"""Promises of attnstore.ask.several: several stores are one table, and no answer mixes two models."""

from pathlib import Path

import polars as pl
import pytest
from asked_store import REDUCTIONS, made_up_documents, write_store
from command_line import attnstore as command
from polars.testing import assert_frame_equal

import attnstore
from attnstore.errors import StoreError, UsageError


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Three checkpoints; the last lacks a reduction."""
    folder = tmp_path_factory.mktemp("runs")
    for step in (1, 2):
        write_store(folder / f"step-{step}.attn", made_up_documents(20 * step, seed=step))
    write_store(folder / "other.attn", made_up_documents(10, seed=9), reductions=REDUCTIONS[:1])
    return folder


def paths(runs: Path) -> list[Path]:
    return [runs / "step-1.attn", runs / "step-2.attn"]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_each_store_answers_separately(runs, engine):
    """The rows of each store's own answer, with its name, in the given order."""
    found = attnstore.open(paths(runs)).query("predictions", engine=engine).polars()
    expected = [
        attnstore.open(path)
        .query("predictions", engine=engine)
        .polars()
        .with_columns(store=pl.lit(path.stem))
        for path in paths(runs)
    ]
    assert_frame_equal(found.select(sorted(found.columns)), pl.concat(expected).select(sorted(found.columns)))
    assert found.columns[0] == "store"
    basis = attnstore.open(paths(runs)).query("predictions").basis
    assert basis.startswith("step-1: 20 documents")
    assert "; step-2: 40 documents" in basis


@pytest.mark.slow
def test_tables_and_sql_have_the_rows_of_all(runs):
    """The views equal the frames: `store` first, then the columns that all stores have."""
    readers = attnstore.open([*paths(runs), runs / "other.attn"])
    counts = readers.sql("SELECT store, count(*) AS n FROM documents GROUP BY ALL ORDER BY store").to_pylist()
    assert counts == [{"store": "other", "n": 10}, {"store": "step-1", "n": 20}, {"store": "step-2", "n": 40}]
    for name in ("documents", "tokens", "totals"):
        frame = getattr(readers, name)().collect()
        assert readers.sql(f"FROM {name} LIMIT 0").arrow().column_names == frame.columns
        assert frame.columns[0] == "store"
        assert frame.height == sum(getattr(readers[each], name)().collect().height for each in readers)
    assert "cls_01" in readers.tokens().collect_schema()
    assert "rollout" not in readers.tokens().collect_schema()


@pytest.mark.slow
def test_columns_that_not_all_stores_have_are_refused(runs):
    """In one line that names the store or the column."""
    readers = attnstore.open([*paths(runs), runs / "other.attn"])
    with pytest.raises(UsageError, match=r"^other: the store has no reduction 'rollout'"):
        readers.query("top_words_by_class", reduction="rollout")
    with pytest.raises(UsageError, match=r"^not all of the stores have the column rollout"):
        readers.sql("SELECT avg(rollout) FROM tokens")
    with pytest.raises(UsageError, match="only the views"):
        readers.sql("FROM read_parquet('/etc/*')")
    with pytest.raises(UsageError, match="is given twice"):
        attnstore.open([runs / "other.attn", runs / "other.attn"])
    with pytest.raises(UsageError, match="there is no store to open"):
        attnstore.open([])
    with pytest.raises(StoreError, match="does not exist"):
        attnstore.open([runs / "other.attn", runs / "nowhere"])


@pytest.mark.slow
def test_a_pattern_names_several_stores(runs):
    """On the command line, in quotes."""
    done = command("sql", f"{runs}/step-*.attn", "SELECT store, count(*) FROM documents GROUP BY ALL ORDER BY 1",
                   "--format", "csv")  # fmt: skip
    assert done[1].splitlines()[1:] == ["step-1,20", "step-2,40"]
    done = command("query", f"{runs}/step-*.attn", "confusion", "--format", "csv")
    assert done[1].startswith("store,")
    code, _, error = command("query", f"{runs}/no-*.attn", "confusion")
    assert (code, error.count("\n")) == (2, 1)
    assert "no store matches" in error
