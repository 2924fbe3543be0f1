"""A process that writes stores one after the other, and readers that read them at random moments."""

import contextlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import small_store
from command_line import attnstore as attnstore_command
from small_store import LABELS, document_rows, manifest
from starlette.testclient import TestClient

import attnstore
from attnstore.check.verify import verify_files
from attnstore.show.explorer.app import explorer

PLAN = manifest(documents=30, part_size=2)
#: The number of tokens of each document.
LENGTHS = {number: len(document_rows(number, LABELS)[1]) for number in range(PLAN.documents)}

_WRITER = """
import sys
from pathlib import Path
from beside import PLAN
from small_store import run
for number in range(int(sys.argv[2])):
    run(Path(sys.argv[1]) / f"store-{number:03d}", PLAN)
"""


@contextlib.contextmanager
def writer(folder: Path, stores: int) -> Iterator[subprocess.Popen]:
    """A separate process that writes and seals that many stores in `folder`, as fast as it can."""
    paths = [str(Path(__file__).parent), str(Path(small_store.__file__).parent), *sys.path]
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(folder), str(stores)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def newest(folder: Path, begun: str) -> Path:
    """The store that is being written, once it has files that match `begun`."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for path in sorted(folder.glob("store-*"), reverse=True):
            if any(path.glob(begun)):
                return path
        time.sleep(0.001)
    raise AssertionError("the writer does not write")


def whole_parts(documents: dict[int, int], tokens: dict[int, int]) -> list[int]:
    """The parts in two tables, after asserting that these have complete parts, the same in both.

    `documents`: length by number; `tokens`: number of tokens by document number.
    """
    parts = sorted({number // PLAN.part_size for number in documents})
    expected = {n: LENGTHS[n] for n in LENGTHS if n // PLAN.part_size in parts}
    assert documents == expected
    assert tokens == expected
    return parts


def python_reader(path: Path, chance: random.Random) -> int:
    """A reader that is open for several moments and gives every answer for the same parts. Returns how many."""
    reader = attnstore.open(path)
    parts = reader.store.finished_parts()
    for ask in chance.sample([_by_sql, _by_frames, _by_question, _by_verify], 4):
        assert ask(reader) == parts, ask
        time.sleep(chance.uniform(0, 0.02))
    later = reader.refresh().store.finished_parts()
    assert set(parts) <= set(later)
    return len(parts)


def _by_sql(reader) -> list[int]:
    rows = reader.sql(
        "SELECT d.document, any_value(d.length) AS length, count(t.document) AS tokens"
        " FROM documents d LEFT JOIN tokens t USING (document) GROUP BY ALL"
    ).to_pylist()
    strangers = reader.sql(
        "SELECT count(*) AS n FROM tokens WHERE document NOT IN (SELECT document FROM documents)"
    )
    assert strangers.to_pylist() == [{"n": 0}]
    return whole_parts(
        {row["document"]: row["length"] for row in rows}, {row["document"]: row["tokens"] for row in rows}
    )


def _by_frames(reader) -> list[int]:
    documents = dict(reader.documents().select("document", "length").collect().rows())
    tokens = Counter(reader.tokens().select("document").collect()["document"].to_list())
    summed = reader.totals().select(pl.col("occurrences").sum()).collect().item()
    assert summed == sum(tokens.values())
    return whole_parts(documents, dict(tokens))


def _by_question(reader) -> list[int]:
    for engine in ("duckdb", "polars"):
        table = reader.query("confusion", engine=engine).arrow()
        assert sum(table["documents"].to_pylist()) == sum(
            len(reader.store.part_range(part)) for part in reader.store.finished_parts()
        )
    return reader.store.finished_parts()


def _by_verify(reader) -> list[int]:
    found = list(verify_files(reader.store))
    assert [finding for finding in found if not finding.ok] == []
    return [int(f.subject.removeprefix("part ")) for f in found if f.subject.startswith("part ")]


def plain_reader(path: Path, chance: random.Random) -> int:
    """Bare DuckDB and Polars over the folder: no error, and complete files. Returns the number of documents."""
    if chance.random() < 0.5:
        rows = duckdb.sql(
            "SELECT document, any_value(length), count(*) FROM read_parquet($files) GROUP BY ALL",
            params={"files": f"{path}/tokens/**/*.parquet"},
        ).fetchall()
    else:
        frame = pl.scan_parquet(path / "tokens", hive_partitioning=True)
        rows = frame.group_by("document").agg(pl.col("length").first(), pl.len()).collect().rows()
    for number, length, tokens in rows:
        assert length == tokens == LENGTHS[number]
    return len(rows)


_COMMANDS = (
    ("sql", "{}", "SELECT count(*) AS n, sum(length)::BIGINT AS tokens FROM documents", "--format", "json"),
    ("query", "{}", "confusion"),
    ("info", "{}"),
    ("verify", "{}", "--sample", "0"),
)


def command_reader(path: Path, chance: random.Random) -> str:
    """A command that succeeds and reports no fault. Returns its output."""
    command = [word.format(path) for word in chance.choice(_COMMANDS)]
    code, out, err = attnstore_command(*command)
    assert (code, err) == (0, ""), (command, err)
    assert not [line for line in out.splitlines() if line.startswith("FAULT")], out
    return out


def explorer_reader(path: Path, chance: random.Random) -> int:
    """Two pages of the explorer: each exists and counts complete parts. Returns the number of documents of the last."""
    found = []
    with TestClient(explorer([path]), base_url="http://127.0.0.1:8000", follow_redirects=True) as web:
        for _ in range(2):
            statement = "SELECT count(*) AS n, sum(length)::BIGINT AS tokens FROM documents"
            page = web.get(f"/{path.name}/sql.csv", params={"sql": statement})
            assert page.status_code == 200, page.text
            documents, tokens = page.text.split()[1].split(",")
            found.append((int(documents), int(tokens or 0)))
            assert web.get(f"/{path.name}/").status_code == 200
            time.sleep(chance.uniform(0, 0.02))
    starts = [sum(LENGTHS[n] for n in range(documents)) for documents, _ in found]
    assert [tokens for _, tokens in found] == starts  # parts are finished in order
    assert all(documents % PLAN.part_size == 0 for documents, _ in found)
    assert found == sorted(found)
    return found[-1][0]


READERS = {
    "Python": (python_reader, "manifest.json"),
    "bare DuckDB or Polars": (plain_reader, "tokens/*/*/*.parquet"),
    "the explorer": (explorer_reader, "manifest.json"),
    "a command": (command_reader, "manifest.json"),
}


def look(folder: Path, kind: str, chance: random.Random) -> None:
    """One reader of the given kind at a random moment.

    Raises AssertionError if it saw a mixture, or the reader's own error.
    """
    reader, begun = READERS[kind]
    time.sleep(chance.uniform(0, 0.2))
    reader(newest(folder, begun), chance)
