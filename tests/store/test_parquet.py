"""Promises of attnstore.store.parquet: files of a documented form, whose bytes depend only on their rows."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from plain_readers import READERS, in_order
from small_store import contents, manifest, run, tables

from attnstore.store.manifest import StoredReduction
from attnstore.store.resume import create_or_resume
from attnstore.store.schema import documents_schema, tokens_schema


def long_table(plan, rows: int) -> tuple[pa.Table, pa.Table]:
    """One document with the given number of tokens."""
    documents, tokens = tables(plan, range(1))
    tokens = tokens.take(pa.array([0] * rows))
    columns = {
        "position": pa.array(range(rows), pa.int32()),
        "token_id": pa.array([row % 1000 for row in range(rows)], pa.int32()),
        "token": pa.array([f"t{row % 1000}" for row in range(rows)]).dictionary_encode(),
        "length": pa.array([rows] * rows, pa.int32()),
    }
    for name, values in columns.items():
        tokens = tokens.set_column(tokens.schema.get_field_index(name), tokens.schema.field(name), values)
    place = documents.schema.get_field_index("length")
    return documents.set_column(place, documents.schema.field(place), pa.array([rows], pa.int32())), tokens


def test_parquet_form(tmp_path: Path) -> None:
    """Compression, encodings, row groups, order and metadata are those that the store promises its readers."""
    plan = manifest(documents=1)
    with create_or_resume(tmp_path / "store", plan) as store:
        store.write_part(0, *long_table(plan, 130_000))
        store.seal()
    with pq.ParquetFile(store.tokens_files()[0]) as file:
        metadata, schema = file.metadata, file.schema_arrow
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [
        122_880,
        7_120,
    ]
    group = metadata.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert [(key.column_index, key.descending) for key in group.sorting_columns] == [(0, False), (1, False)]
    encodings = {
        name: next((e for e in column.encodings if e not in ("RLE", "PLAIN")), "PLAIN")
        for name, column in columns.items()
    }
    delta, split, dictionary = "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "RLE_DICTIONARY"
    assert encodings == {
        **dict.fromkeys(["document", "position", "start", "end"], delta),
        **dict.fromkeys(["token_id", "token", "word", "piece", "pieces", "length", "prediction"], dictionary),
        **dict.fromkeys(["special", "new_token", "new_word"], "PLAIN"),
        **dict.fromkeys(["cls_01", "cls_02", "odd"], split),
        **dict.fromkeys(["cls_heads_01.list.element", "cls_heads_02.list.element"], split),
    }
    assert json.loads(schema.metadata[b"attnstore.fingerprint"]) == plan.fingerprint
    expected = tokens_schema(plan)
    assert schema.names == expected.names
    assert {field.name: field.metadata[b"meaning"] for field in schema} == {
        field.name: field.metadata[b"meaning"] for field in expected
    }
    assert [field.nullable for field in schema] == [field.nullable for field in expected]
    with pq.ParquetFile(store.documents_files()[0]) as file:
        of_documents = file.metadata.row_group(0)
        assert file.schema_arrow.names == documents_schema(plan).names
    columns = {
        of_documents.column(n).path_in_schema: of_documents.column(n) for n in range(of_documents.num_columns)
    }
    floats = [
        *("probability", "probabilities.list.element", "logits.list.element"),
        *("cls_01_entropy", "cls_heads_02_entropy.list.element"),
    ]
    assert [split in columns[name].encodings for name in floats] == [True] * len(floats)


@pytest.mark.slow
def test_bytes_depend_only_on_the_rows(tmp_path: Path) -> None:
    """Rows in other chunks, with other dictionaries, or with columns in another order make the same bytes."""
    plan = manifest()
    run(tmp_path / "plain", plan)
    with create_or_resume(tmp_path / "other", plan) as store:
        for part in store.missing_parts():
            pair = []
            for table in tables(plan, store.part_range(part)):
                pieces = []
                for row in range(table.num_rows):
                    piece = table.slice(row, 1)
                    for place, field in enumerate(table.schema):
                        if pa.types.is_dictionary(field.type):
                            values = ["unused", *dict.fromkeys(reversed(table[field.name].to_pylist()))]
                            values = pa.array([value for value in values if value is not None], pa.string())
                            index = pa.compute.index_in(piece[field.name].cast(pa.string()), value_set=values)
                            codes = pa.DictionaryArray.from_arrays(index.combine_chunks(), values)
                            piece = piece.set_column(place, field, codes)
                    pieces.append(piece)
                pair.append(pa.concat_tables(pieces).select(table.column_names[::-1]))
            store.write_part(part, *pair)
        store.seal(sealed="2026-01-02T03:04:06+00:00")
    assert contents(tmp_path / "other") == contents(tmp_path / "plain")


@pytest.mark.parametrize("entropies", [None, [0.5, None, 0.25]], ids=str)
def test_null_values_of_reductions_survive(tmp_path: Path, entropies: list[float | None] | None) -> None:
    """A reduction may lack a value or a whole list of heads: it is null in every reader.

    A head's entropy may be null, too.
    """
    reduction = StoredReduction("heads", per_layer=False, per_head=True, meaning="m", total=None)
    plan = manifest(documents=1, reductions=(reduction,))
    documents, tokens = tables(manifest(documents=1), [4])
    values = [None if row % 2 else [float(row), 1.0, -0.5] for row in range(tokens.num_rows)]
    tokens = tokens.select([*tokens_schema(manifest(reductions=())).names, "split", "label"])
    tokens = tokens.append_column("heads", pa.array(values, pa.list_(pa.float32(), 3)))
    place = tokens.schema.get_field_index("document")
    tokens = tokens.set_column(place, tokens.schema.field(place), pa.array([0] * tokens.num_rows, pa.int32()))
    documents = documents.set_column(0, documents.schema.field(0), pa.array([0], pa.int32()))
    documents = documents.select([*documents_schema(manifest(reductions=())).names, "split", "label"])
    documents = documents.append_column("heads_entropy", pa.array([entropies], pa.list_(pa.float32(), 3)))
    with create_or_resume(tmp_path / "store", plan) as store:
        store.write_part(0, documents, tokens)
        store.seal()
    found = [[row["heads"] for row in in_order(read(tmp_path / "store" / "tokens"))] for read in READERS]
    assert len(values) > 2
    assert found == [values] * len(READERS)
    found = [read(tmp_path / "store" / "documents")[0]["heads_entropy"] for read in READERS]
    assert found == [entropies] * len(READERS)
