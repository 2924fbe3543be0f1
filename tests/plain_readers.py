"""Programs that know nothing of attnstore, each reading a table by its path alone."""

from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset


def with_duckdb(table: Path) -> list[dict]:
    return duckdb.sql(f"from '{table}/**/*.parquet'").to_arrow_table().to_pylist()


def with_polars(table: Path) -> list[dict]:
    # Polars reads keys from a directory's path by default; for a glob it needs an option.
    return pl.scan_parquet(f"{table}/**/*.parquet", hive_partitioning=True).collect().to_dicts()


def with_polars_by_directory(table: Path) -> list[dict]:
    return pl.read_parquet(table).to_dicts()


def with_pandas(table: Path) -> list[dict]:
    # Via Arrow, only because pandas turns integers with nulls into floats.
    return pa.Table.from_pandas(pd.read_parquet(table, dtype_backend="pyarrow")).to_pylist()


def with_pyarrow(table: Path) -> list[dict]:
    return pyarrow.dataset.dataset(table, partitioning="hive").to_table().to_pylist()


READERS = [with_duckdb, with_polars, with_polars_by_directory, with_pandas, with_pyarrow]


def in_order(rows: list[dict]) -> list[dict]:
    return sorted(
        ({name: row[name] for name in sorted(row)} for row in rows),
        key=lambda row: (row["document"], row.get("position", 0)),
    )
