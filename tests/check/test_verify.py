"""Promises of attnstore.check.verify: every fault is found, named and located, and none raises an error."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_store import contents, entropies, manifest, resealed, run, tables

from attnstore.check.verify import Finding, verify_files
from attnstore.store.manifest import StoredReduction
from attnstore.store.resume import create_or_resume
from attnstore.store.store import open_store

DOCUMENTS = "documents/split=test/label=pos/part-00000.parquet"
OF_PART_2 = [
    f"{kind}/split=test/label={label}/part-00002.parquet"
    for kind in ("documents", "tokens")
    for label in ("__HIVE_DEFAULT_PARTITION__", "neg")
]
TOKENS = "tokens/split=test/label=pos/part-00000.parquet"


def rows_of(numbers: range) -> tuple[int, int]:
    documents, tokens = tables(manifest(), numbers)
    return documents.num_rows, tokens.num_rows


def faults(path: Path) -> list[tuple[str, str]]:
    return [(finding.subject, finding.detail) for finding in verify_files(open_store(path)) if not finding.ok]


@pytest.mark.parametrize("label_in_path", [True, False])
def test_a_sound_store(tmp_path: Path, label_in_path: bool) -> None:
    """A store as a run leaves it: its state, then each part with its rows, and no faults."""
    store = run(tmp_path / "store", manifest(label_in_path=label_in_path))
    ranges = [range(4), range(4, 8), range(8, 10)]
    total = rows_of(range(10))
    files = len(contents(store.path)) - 1
    assert list(verify_files(open_store(store.path))) == [
        Finding("manifest.json", True, f"sealed: {total[0]} documents, {total[1]} tokens in {files} files"),
        *(
            Finding(f"part {part}", True, "{} documents, {} tokens".format(*rows_of(numbers)))
            for part, numbers in enumerate(ranges)
        ),
        Finding("totals.parquet", True, f"{pq.read_metadata(store.totals_file()).num_rows} terms"),
    ]


def test_an_unfinished_store(tmp_path: Path) -> None:
    """Finished parts are checked, and files that a killed run left are reported, but are not faults."""
    plan = manifest()
    run(tmp_path / "store", plan, seal=False)
    (tmp_path / "store" / "_parts" / "part-00002.json").unlink()
    documents, tokens = rows_of(range(8))
    of_part_2 = [name for name in contents(tmp_path / "store") if name.endswith("part-00002.parquet")]
    state = f"not sealed, 2 of 3 parts finished: {documents} documents, {tokens} tokens in 12 files"
    assert list(verify_files(open_store(tmp_path / "store"))) == [
        Finding("manifest.json", True, state),
        Finding("part 0", True, "{} documents, {} tokens".format(*rows_of(range(4)))),
        Finding("part 1", True, "{} documents, {} tokens".format(*rows_of(range(4, 8)))),
        *(
            Finding(name, True, "of a part that was not finished when the store was opened")
            for name in of_part_2
        ),
    ]
    assert len(of_part_2) == 4


DAMAGES = [
    ("gone", lambda path: path.unlink(), f"part 0: {TOKENS}: is missing: run again to compute it again"),
    (
        "cut short",
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        f"part 0: {TOKENS}: has {{less}} bytes, {{size}} were written: it is damaged: run again to compute it again",
    ),
    (
        "one bit",
        lambda path: path.write_bytes(bytes(byte ^ (n == 99) for n, byte in enumerate(path.read_bytes()))),
        f"{TOKENS}: its SHA-256 is not the one recorded: it is damaged",
    ),
]


@pytest.mark.parametrize(
    ("damage", "wording"), [case[1:] for case in DAMAGES], ids=[case[0] for case in DAMAGES]
)
def test_damage_to_an_unfinished_store_is_found(tmp_path: Path, damage, wording: str) -> None:
    """A part that was finished and is damaged is a fault, not a missing part."""
    run(tmp_path / "store", manifest(), seal=False)
    size = (tmp_path / "store" / TOKENS).stat().st_size
    damage(tmp_path / "store" / TOKENS)
    found = [f"{subject}: {detail}" for subject, detail in faults(tmp_path / "store")]
    assert found == [wording.format(size=f"{size:,}", less=f"{size - 1:,}")]


def test_a_damaged_receipt_is_found(tmp_path: Path) -> None:
    """An unreadable receipt is a fault of its part."""
    run(tmp_path / "store", manifest(), seal=False)
    (tmp_path / "store/_parts/part-00001.json").write_text('{"part": 1')
    wording = "its receipt _parts/part-00001.json is damaged: run again to compute it again"
    assert faults(tmp_path / "store") == [("part 1", wording)]


def test_a_store_without_documents(tmp_path: Path) -> None:
    """It has no faults."""
    run(tmp_path / "store", manifest(documents=0))
    found = list(verify_files(open_store(tmp_path / "store")))
    assert found == [
        Finding("manifest.json", True, "sealed: 0 documents, 0 tokens in 1 files"),
        Finding("totals.parquet", True, "0 terms"),
    ]


# -- external damage --------------------------------------------------------------------------------------


def flip_a_bit(path: Path) -> None:
    content = bytearray((path / TOKENS).read_bytes())
    content[len(content) // 2] ^= 1
    (path / TOKENS).write_bytes(content)


def without_part(path: Path) -> None:
    raw = json.loads((path / "manifest.json").read_text())
    for file in [file for file in raw["files"] if "part-00002" in file["path"]]:
        raw["files"].remove(file)
        (path / file["path"]).unlink()
    (path / "manifest.json").write_text(json.dumps(raw))


def shorter_plan(path: Path) -> None:
    raw = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(raw | {"documents": 8}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        pytest.param(
            lambda path: (path / TOKENS).write_bytes((path / TOKENS).read_bytes()[:100]),
            [(TOKENS, "has 100 bytes, {size} were written: it is damaged")],
            id="truncated",
        ),
        pytest.param(
            lambda path: (path / TOKENS).write_bytes(b""),
            [(TOKENS, "has 0 bytes, {size} were written: it is damaged")],
            id="empty",
        ),
        pytest.param(
            flip_a_bit, [(TOKENS, "its SHA-256 is not the one recorded: it is damaged")], id="bit flipped"
        ),
        pytest.param(lambda path: (path / TOKENS).unlink(), [(TOKENS, "is missing")], id="missing"),
        pytest.param(
            lambda path: [(path / name).unlink() for name in (DOCUMENTS, TOKENS)],
            [(DOCUMENTS, "is missing"), (TOKENS, "is missing")],
            id="both missing",
        ),
        pytest.param(
            lambda path: (path / "tokens" / "part-00000.parquet").write_bytes(b"PAR1"),
            [
                (
                    "tokens/part-00000.parquet",
                    "not a file of this store, but a plain reader reads it: move it away",
                )
            ],
            id="foreign file",
        ),
        pytest.param(
            lambda path: (path / TOKENS).with_name("part-00007.parquet").write_bytes(b"PAR1"),
            [
                (
                    TOKENS.replace("00000", "00007"),
                    "not a file of this store, but a plain reader reads it: move it away",
                )
            ],
            id="foreign part",
        ),
        pytest.param(
            shorter_plan,
            [
                *(
                    (name, "the manifest lists it, but it is no file of the plan's parts")
                    for name in OF_PART_2
                ),
            ],
            id="parts beyond the plan",
        ),
        pytest.param(
            without_part,
            [("part 2", "does not hold the documents 8 to 9, each once")],
            id="part not in the manifest",
        ),
        pytest.param(
            lambda path: resealed(path, TOKENS, (path / TOKENS.replace("tokens", "documents")).read_bytes()),
            [(TOKENS, "has the columns {document_columns}, not {token_columns}")],
            id="another table's file",
        ),
    ],
)
def test_damage_is_found(
    tmp_path: Path, damage: Callable[[Path], object], expected: list[tuple[str, str]]
) -> None:
    """What disks, networks and people do to files: each is one finding that names the file."""
    store = run(tmp_path / "store", manifest())
    blanks = {
        "size": f"{(store.path / TOKENS).stat().st_size:,}",
        "document_columns": ", ".join(store.documents_schema.names),
        "token_columns": ", ".join(store.tokens_schema.names),
    }
    damage(store.path)
    assert faults(store.path) == [(subject, detail.format(**blanks)) for subject, detail in expected]


def test_a_file_that_is_not_parquet(tmp_path: Path) -> None:
    """A file with the recorded hash that is not Parquet is a finding, too."""
    import hashlib

    store = run(tmp_path / "store", manifest())
    (store.path / TOKENS).write_bytes(b"not Parquet")
    raw = json.loads((store.path / "manifest.json").read_text())
    (entry,) = (file for file in raw["files"] if file["path"] == TOKENS)
    entry |= {"bytes": 11, "sha256": hashlib.sha256(b"not Parquet").hexdigest()}
    (store.path / "manifest.json").write_text(json.dumps(raw))
    ((subject, detail),) = faults(store.path)
    assert (subject, detail.partition(":")[0]) == (TOKENS, "can't be read")
    assert "\n" not in detail


# -- a file of another form -------------------------------------------------------------------------------


def rewritten(path: Path, name: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write a file again after `change`, with a matching hash."""
    sink = io.BytesIO()
    with pq.ParquetFile(path / name) as file:
        pq.write_table(change(file.read()), sink)
    resealed(path, name, sink.getvalue())


def with_field(table: pa.Table, field: pa.Field) -> pa.Table:
    place = table.schema.get_field_index(field.name)
    return table.set_column(place, field, table[field.name].cast(field.type))


@pytest.mark.sampled(2)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (
            lambda t: with_field(t, t.schema.field("odd").with_type(pa.float64())),
            "column 'odd': type is double, not float",
        ),
        (
            lambda t: with_field(t, t.schema.field("start").with_nullable(True)),
            "column 'start': nullable is True, not False",
        ),
        (
            lambda t: with_field(t, t.schema.field("cls_01").with_metadata({"meaning": "something else"})),
            "column 'cls_01' has another description",
        ),
        (
            lambda t: with_field(t, t.schema.field("cls_01").remove_metadata()),
            "column 'cls_01' has another description",
        ),
        (
            lambda t: t.replace_schema_metadata({"attnstore.fingerprint": "{}"}),
            "has another run's fingerprint",
        ),
        (lambda t: t.replace_schema_metadata(None), "has another run's fingerprint"),
        (
            lambda t: t.slice(1),
            "its rows are not each document's positions 0 to length - 1, in the documents' order",
        ),
        (
            lambda t: t.take([1, 0, *range(2, t.num_rows)]),
            "its rows are not each document's positions 0 to length - 1, in the documents' order",
        ),
    ],
)
def test_a_file_of_another_form_is_found(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], detail: str
) -> None:
    """A readable file that does not match the schema, the run or the plan is a finding."""
    store = run(tmp_path / "store", manifest())
    rewritten(store.path, TOKENS, change)
    assert faults(store.path) == [(TOKENS, detail)]


@pytest.mark.parametrize(
    ("order", "details"),
    [
        ([1, 0, 2], ["{documents}: the order of the documents is broken: 1 of 3 documents, first 0"]),
        (
            [0, 0, 2],
            ["{documents}: the order of the documents is broken: 1 of 3 documents, first 0", "part 0: {gap}"],
        ),
        ([0, 2], ["part 0: {gap}"]),
    ],
)
def test_missing_documents_and_documents_out_of_order_are_found(
    tmp_path: Path, order: list[int], details: list[str]
) -> None:
    """Every document of the plan must be there once, in order, with tokens beside it or not."""
    plan = manifest(documents=3, label_in_path=False)
    store = run(tmp_path / "store", plan)
    documents, tokens = (f"{kind}/split=test/part-00000.parquet" for kind in ("documents", "tokens"))
    whole = tables(plan, range(3))[1]["document"].to_pylist()
    rows = [row for number in order for row, document in enumerate(whole) if document == number]
    rewritten(store.path, documents, lambda table: table.take(order))
    rewritten(store.path, tokens, lambda table: table.take(rows))
    gap = "does not hold the documents 0 to 2, each once"
    found = [f"{subject}: {detail}" for subject, detail in faults(store.path)]
    assert found == [detail.format(documents=documents, gap=gap) for detail in details]


def test_a_wrong_row_count_is_found(tmp_path: Path) -> None:
    """The manifest's number of rows must be that of the file."""
    store = run(tmp_path / "store", manifest())
    raw = json.loads((store.path / "manifest.json").read_text())
    (entry,) = (file for file in raw["files"] if file["path"] == DOCUMENTS)
    entry["rows"] += 1
    (store.path / "manifest.json").write_text(json.dumps(raw))
    there = entry["rows"] - 1
    assert faults(store.path) == [(DOCUMENTS, f"has {there} rows, {there + 1} were written")]


# -- wrong values -----------------------------------------------------------------------------------------


def put(table: pa.Table, name: str, row: int, value: object) -> pa.Table:
    """`table` with one value changed."""
    place, field = table.schema.get_field_index(name), table.schema.field(name)
    values = table[name].to_pylist()
    values[row] = value
    type_ = pa.string() if pa.types.is_dictionary(field.type) else field.type
    return table.set_column(place, field, pa.array(values, type_).cast(field.type))


NOT_FINITE, NOT_THE_PREDICTIONS = (
    "a logit or a probability is not a finite number",
    "the probability is not the prediction's",
)
NOT_SOFTMAX = "the probabilities are not the softmax of the logits"
NAN, INFINITY = float("nan"), float("inf")

OF_DOCUMENT = {
    "no class": ({"prediction": "meh"}, ["the prediction is not a class of the model"]),
    "does not have the highest": (
        {"prediction": "other"},
        ["the prediction does not have the highest logit", NOT_THE_PREDICTIONS],
    ),
    "logits short": ({"logits": [1.0]}, ["there are not 2 logits and probabilities"]),
    "nan": ({"logits": [NAN, 1.0]}, [NOT_FINITE]),
    "infinite": ({"probabilities": [INFINITY, 1.0]}, [NOT_FINITE]),
    "sum": (
        {"probabilities": "doubled"},
        ["the probabilities do not sum to 1", NOT_SOFTMAX, NOT_THE_PREDICTIONS],
    ),
    "softmax": ({"probabilities": "swapped"}, [NOT_SOFTMAX, NOT_THE_PREDICTIONS]),
    "probability": ({"probability": 0.5}, [NOT_THE_PREDICTIONS]),
    "nan probability": ({"probability": NAN}, [NOT_THE_PREDICTIONS]),
}


@pytest.mark.parametrize("case", OF_DOCUMENT)
def test_a_wrong_value_of_a_document_is_found(tmp_path: Path, case: str) -> None:
    """Each rule of the documents table, broken in one document, is a finding that names that document."""
    changes, details = OF_DOCUMENT[case]
    plan = manifest(documents=3, part_size=3, label_in_path=False)
    documents, tokens = tables(plan, range(3))
    for name, value in changes.items():
        old = documents[name][1].as_py()
        if value == "other":
            value = {"pos": "neg", "neg": "pos"}[old]  # noqa: PLW2901
        elif value == "doubled":
            value = [2 * number for number in old]  # noqa: PLW2901
        elif value == "swapped":
            value = old[::-1]  # noqa: PLW2901
        documents = put(documents, name, 1, value)
        if name == "prediction":
            for row, document in enumerate(tokens["document"].to_pylist()):
                if document == 1:
                    tokens = put(tokens, "prediction", row, value)
    with create_or_resume(tmp_path / "store", plan) as store:
        store.write_part(0, documents, tokens)
        store.seal()
    assert faults(store.path) == [
        ("documents/split=test/part-00000.parquet", f"{detail}: 1 of 3 documents, first 1")
        for detail in details
    ]


def test_a_document_longer_than_the_limit_is_found(tmp_path: Path) -> None:
    """No document has more tokens than the model was given."""
    plan = manifest(documents=3, part_size=3, label_in_path=False, max_length=2)
    store = run(tmp_path / "store", plan)
    lengths = tables(plan, range(3))[0]["length"].to_pylist()
    over = [number for number, length in enumerate(lengths) if length > 2]
    assert over
    assert faults(store.path) == [
        (
            "documents/split=test/part-00000.parquet",
            f"the length is not in 0 to 2: {len(over)} of 3 documents, first {over[0]}",
        )
    ]


# In document 5, [CLS] film film ##ing 😀 ! naïve naïve ! 😀 …: position, changed values, finding.
OF_TOKEN = {
    "length": (3, {"length": 99}, "the length is not the document's"),
    "prediction": (3, {"prediction": "meh"}, "the prediction is not the document's"),
    "before the text": (3, {"start": -1}, "the span is not inside the text"),
    "after the text": (3, {"end": 10_000}, "the span is not inside the text"),
    "backwards": (3, {"start": 12, "end": 9}, "the span is not inside the text"),
    "word of [CLS]": (0, {"word": "x", "piece": 0, "pieces": 1, "new_word": True}, "a special token has a word"),
    "piece beyond": (3, {"piece": 2}, "the piece does not fit its word"),
    "no piece": (3, {"piece": None}, "the piece does not fit its word"),
    "piece without word": (0, {"piece": 1}, "the piece does not fit its word"),
    "pieces without word": (0, {"pieces": 1}, "the piece does not fit its word"),
    "first token again": (2, {"new_token": True}, "new_token is wrong"),
    "first token missed": (1, {"new_token": False}, "new_token is wrong"),
    "later piece as new": (3, {"new_word": True}, "new_word is wrong"),
    "new word missed": (2, {"new_word": False}, "new_word is wrong"),
    "word again": (7, {"new_word": True}, "new_word is wrong"),
}  # fmt: skip


def with_entropies(documents: pa.Table, tokens: pa.Table, plan) -> pa.Table:
    """The documents with the entropies of these tokens."""
    columns = [column for reduction in plan.reductions for column in reduction.columns(plan.layers)]
    of_tokens = tokens.to_pylist()
    rows = [
        row | entropies([token for token in of_tokens if token["document"] == row["document"]], columns)
        for row in documents.to_pylist()
    ]
    return pa.Table.from_pylist(rows, documents.schema)


def store_of_one(path: Path, plan, change: Callable[[pa.Table], pa.Table], number: int = 5) -> Path:
    """A store whose only document is number `number` of the small run, with changed tokens and their entropies."""
    documents, tokens = tables(plan, [number])
    documents = put(documents, "document", 0, 0)
    zeros = pa.array([0] * tokens.num_rows, pa.int32())
    tokens = change(tokens.set_column(0, tokens.schema.field(0), zeros))
    with create_or_resume(path, plan) as store:
        store.write_part(0, with_entropies(documents, tokens, plan), tokens)
        store.seal()
    return path


def one_document(**changes: object):
    return manifest(documents=1, label_in_path=False, **changes)


@pytest.mark.slow
@pytest.mark.parametrize("case", OF_TOKEN)
def test_a_wrong_value_of_a_token_is_found(tmp_path: Path, case: str) -> None:
    """Each rule of the tokens table, broken in one token, is a finding that names document and position."""
    position, values, detail = OF_TOKEN[case]

    def change(tokens: pa.Table) -> pa.Table:
        for name, value in values.items():
            tokens = put(tokens, name, position, value)
        return tokens

    path = store_of_one(tmp_path / "store", one_document(), change)
    expected = f"{detail}: 1 of 12 tokens, first document 0, position {position}"
    assert faults(path) == [("tokens/split=test/part-00000.parquet", expected)]


@pytest.mark.parametrize(
    ("column", "value", "detail"),
    [
        ("cls_02", float("nan"), "cls_02: no finite number: 1 of 12 tokens, first in document 0"),
        ("odd", float("-inf"), "odd: no finite number: 1 of 12 tokens, first in document 0"),
        (
            "cls_heads_01",
            [0.1, float("nan"), 0.1],
            "cls_heads_01: no finite number: 1 of 12 tokens, first in document 0",
        ),
        ("cls_01", 0.5, "cls_01: the values do not sum to 1: 1 of 1 documents, first 0"),
        ("cls_01", None, "cls_01: the values do not sum to 1: 1 of 1 documents, first 0"),
        (
            "cls_heads_02",
            [0.5, 0.0, 0.0],
            "cls_heads_02: the values do not sum to 1: 1 of 1 documents, first 0",
        ),
    ],
)
def test_a_wrong_value_of_a_reduction_is_found(
    tmp_path: Path, column: str, value: object, detail: str
) -> None:
    """A NaN, and values that do not sum to the promised total, are findings."""
    path = store_of_one(tmp_path / "store", one_document(), lambda tokens: put(tokens, column, 3, value))
    assert faults(path) == [("tokens/split=test/part-00000.parquet", detail)]


@pytest.mark.parametrize(
    ("total", "sums_to", "sound"),
    [(1.0, 1.009, True), (1.0, 1.011, False), (1.0, 0.989, False), (12.0, 12.1, True), (12.0, 12.2, False),
     (0.0, 0.005, True), (0.0, -0.02, False), (-2.0, -2.01, True), (-2.0, 2.0, False), (None, 77.0, True)],
)  # fmt: skip
def test_totals_are_checked_to_one_percent(
    tmp_path: Path, total: float | None, sums_to: float, sound: bool
) -> None:
    """Values rounded to 8 significant bits may differ by one percent of the total, not more."""
    reduction = StoredReduction("odd", per_layer=False, per_head=False, meaning="m", total=total)
    plan = one_document(reductions=(reduction,))

    def change(tokens: pa.Table) -> pa.Table:
        place = tokens.schema.get_field_index("odd")
        values = pa.array([sums_to / tokens.num_rows] * tokens.num_rows, pa.float32())
        return tokens.set_column(place, tokens.schema.field("odd"), values)

    path = store_of_one(tmp_path / "store", plan, change)
    assert (faults(path) == []) is sound


@pytest.mark.parametrize("silent", [{1}, {0, 1, 2}])
def test_documents_with_only_nulls_are_accepted(tmp_path: Path, silent: set[int]) -> None:
    """A reduction without values for a document promises no total for it."""
    plan = manifest(documents=3, label_in_path=False)
    documents, tokens = tables(plan, range(3))
    for row, document in enumerate(tokens["document"].to_pylist()):
        for name in ("cls_01", "cls_heads_02"):
            if document in silent:
                tokens = put(tokens, name, row, None)
    with create_or_resume(tmp_path / "store", plan) as store:
        store.write_part(0, with_entropies(documents, tokens, plan), tokens)
        store.seal()
    assert faults(store.path) == []


@pytest.mark.parametrize(
    ("name", "change", "sound"),
    [
        ("cls_01_entropy", lambda value: value * (1 + 1e-7), True),
        ("cls_01_entropy", lambda value: value * 1.001, False),
        ("cls_02_entropy", lambda value: None, False),
        ("cls_02_entropy", lambda value: NAN, False),
        ("cls_heads_01_entropy", lambda value: value[::-1], False),
        ("cls_heads_02_entropy", lambda value: [*value[:2], None], False),
        ("cls_heads_02_entropy", lambda value: None, False),
        ("odd_entropy", lambda value: 0.0, False),
    ],
)
def test_a_wrong_entropy_of_a_document_is_found(tmp_path: Path, name: str, change, sound: bool) -> None:
    """Entropies must be those of the document's tokens, for each head, and null if there is none."""
    plan = manifest(documents=3, label_in_path=False)
    documents, tokens = tables(plan, range(3))
    value = documents[name][1].as_py()
    assert (value is None) is (name == "odd_entropy")
    with create_or_resume(tmp_path / "store", plan) as store:
        store.write_part(0, put(documents, name, 1, change(value)), tokens)
        store.seal()
    told = f"{name}: not that of the tokens: 1 of 3 documents, first 1"
    expected = [] if sound else [("documents/split=test/part-00000.parquet", told)]
    assert faults(store.path) == expected


@pytest.mark.slow
def test_tokens_without_documents_beside_them(tmp_path: Path) -> None:
    """Documents and tokens of a partition belong together."""
    store = run(tmp_path / "store", manifest())
    raw = json.loads((store.path / "manifest.json").read_text())
    raw["files"] = [file for file in raw["files"] if file["path"] != DOCUMENTS]
    (store.path / "manifest.json").write_text(json.dumps(raw))
    (store.path / DOCUMENTS).unlink()
    assert faults(store.path) == [
        (TOKENS, "has no file of documents beside it"),
        ("part 0", "does not hold the documents 0 to 3, each once"),
    ]
