"""Parquet files of a store as one Polars lazy frame."""

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from attnstore.store.place import for_polars
from attnstore.store.schema import without_keys


def scan(partitions: Sequence[tuple[str, str | None, list[str]]], schema: pa.Schema) -> pl.LazyFrame:
    """The rows of one table's files, with `partitions` from `Store.partitions`.

    Columns: those of `schema`, then `split` and `label` (String), wherever they are stored.
    """
    names = without_keys(schema)
    frames = []
    for split, label, paths in partitions:
        of_file = pl.col("label").cast(pl.String)
        of_path = pl.lit(label, dtype=pl.String).alias("label")
        frames.append(
            pl.scan_parquet(**for_polars(paths)).select(
                *names, pl.lit(split).alias("split"), of_file if "label" in schema.names else of_path
            )
        )
    if frames:
        return pl.concat(frames)
    empty = pl.DataFrame(schema.empty_table())
    text = pl.lit(None, dtype=pl.String)
    return empty.lazy().select(*names, text.alias("split"), text.alias("label"))
