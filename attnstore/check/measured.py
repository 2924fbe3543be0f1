"""The table `faithfulness` read back: everything about it that can be checked without the model."""

from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from attnstore.check.verify import Finding
from attnstore.messages import counted, one_line
from attnstore.store import frames
from attnstore.store.faithfulness import FOLDER, Measurement, file_schema_of, measurements
from attnstore.store.parquet import FINGERPRINT_KEY
from attnstore.store.place import address, for_arrow, for_polars, names_below
from attnstore.store.store import Store

#: The keys of a row in a file.
_KEY = ("document", "score", "draw", "by", "unit", "fraction")

#: How far a measured probability may be from the stored one, because the dtype may differ from the run's.
_NEAR = 0.2


def verify_faithfulness(store: Store) -> Iterator[Finding]:
    """Read the table `faithfulness` back, file by file, and check what can be checked without the model.

    For each file: size, SHA-256, schema, column meanings, the store's fingerprint, rows, and that it was measured with
    the run's model. For its rows: each occurs once, with a document of the store and a class probability near the
    stored one; every score of a document has the same fractions; differences of probabilities are between −1 and 1.

    Yields a finding for each sound file, or one for each fault. Nothing for a store without the table.
    """
    found, damaged = measurements(store)
    faults = {measured.file.path: _file_fault(store, measured) for measured in found}
    for path, fault in {**damaged, **faults}.items():
        if fault is not None:
            yield Finding(path, False, f"{fault}: `attnstore faithfulness` measures it again")
    sound = [measured for measured in found if faults[measured.file.path] is None]
    if sound:
        yield from _rows_of(store, sound)
    known = {measured.file.path for measured in found} | set(damaged)
    for there in names_below(store.path / FOLDER):
        if f"{FOLDER}/{there}" not in known:
            yield Finding(
                f"{FOLDER}/{there}",
                False,
                "it has no receipt, as if a measurement was interrupted, but a plain reader reads it: remove it",
            )


def _file_fault(store: Store, measured: Measurement) -> str | None:
    """What is wrong with one file, without its rows."""
    if fault := measured.file.damage(store.path):
        return fault
    if measured.settings.get("model_sha256") != store.manifest.fingerprint.get("model_sha256"):
        return "it was measured with another model than the run's"
    expected = file_schema_of(store)
    try:
        with pq.ParquetFile(for_arrow(store.path / measured.file.path)) as parquet:
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        return f"can't be read: {one_line(error)}"
    if not schema.equals(expected) or any(
        schema.field(f.name).metadata[b"meaning"] != f.metadata[b"meaning"] for f in expected
    ):
        return "its columns are not the table's"
    if (schema.metadata or {}).get(FINGERPRINT_KEY) != expected.metadata[FINGERPRINT_KEY]:
        return "has another run's fingerprint"
    return None if rows == measured.file.rows else f"has {rows:,} rows, {measured.file.rows:,} were written"


def _rows_of(store: Store, sound: list[Measurement]) -> Iterator[Finding]:
    """What is wrong with the rows of sound files, compared with each other and with the documents."""
    paths = {measured.file.path: measured for measured in sound}
    rows = pl.concat(
        pl.read_parquet(**for_polars([address(store.path / path)])).with_columns(
            pl.col("score", "by", "unit").cast(pl.String), path=pl.lit(path)
        )
        for path in paths
    )
    documents = frames.collect(store, frames.documents(store).select("document", stored="probability"))
    rows = rows.join(documents, on="document", how="left")
    of_score = rows.group_by("path", "document", "score", "draw", "by", "unit").agg(
        fractions=pl.col("fraction").sort().cast(pl.String).str.join(" "),
        probabilities=pl.col("probability").n_unique(),
    )
    usual = of_score["fractions"].mode().min()
    uneven = of_score.filter((pl.col("fractions") != usual) | (pl.col("probabilities") > 1))
    differences = pl.max_horizontal(pl.col("comprehensiveness", "sufficiency").abs())
    faults = (
        ("is there more than once", rows.filter(pl.struct(*_KEY).is_duplicated())),
        ("is of no document of this store", rows.filter(pl.col("stored").is_null())),
        ("has a null", rows.filter(pl.any_horizontal(pl.exclude("stored").is_null()))),
        (
            "has a probability that is not near to the document's",
            rows.filter((pl.col("probability") - pl.col("stored")).abs() > _NEAR),
        ),
        (
            "has an impossible difference of probabilities",
            rows.filter(~(differences <= 1 + 1e-6)),
        ),
        (
            "removes none of its units, or more than there are",
            rows.filter(~pl.col("removed").is_between(1, pl.col("units"))),
        ),
        ("is of a score with other fractions, or probabilities, than the rest", uneven),
    )
    for path, measured in paths.items():
        wrong = [
            (what, of_path) for what, found in faults if len(of_path := found.filter(pl.col("path") == path))
        ]
        for what, of_path in wrong:
            first = np.min(of_path["document"].to_numpy())
            yield Finding(
                path,
                False,
                f"a row {what}: {len(of_path):,} of {measured.file.rows:,}, first document {first}",
            )
        if not wrong:
            scores = rows.filter(pl.col("path") == path)["score"].n_unique()
            yield Finding(
                path, True, f"{counted(measured.documents, 'document')}, {counted(scores, 'score')}"
            )
