"""A stranger's files with changed bytes: data, a model's folder, a question. Each is read in a child process.

It is a failure if a child does not end within a minute, is ended by a signal (a library's crash), or raises anything
but a user error. The parent reads nothing itself, because a process that runs threads can't be forked.
"""

import gzip
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tarfile
import traceback
import zipfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import tiny
import transformers  # noqa: F401 - here, and not once more in each child

from attnstore.ask.questions import find_questions
from attnstore.config import RunConfig, SourceConfig
from attnstore.data.sources import open_source
from attnstore.data.survey import survey
from attnstore.engine.loading import load_classifier
from attnstore.engine.reductions import resolve_reductions
from attnstore.errors import AttnstoreError

ROWS = [{"text": f"row {n}, a film", "label": ["neg", "pos"][n % 2]} for n in range(30)]
QUESTION = "-- How many documents there are.\n-- param: least = 1\nSELECT count(*) AS n FROM documents\n"


def specimens(folder: Path) -> None:
    """A sound file of each kind of data, a model's folder, and a question with its chart, written by a child."""
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return
    try:
        _write_specimens(folder)
        os._exit(0)
    finally:
        os._exit(1)


def _write_specimens(folder: Path) -> None:
    data = folder / "data"
    data.mkdir(parents=True)
    frame = pl.DataFrame(ROWS)
    csv, lines = frame.write_csv(), "".join(f"{json.dumps(row)}\n" for row in ROWS)
    (data / "a.csv").write_text(csv)
    (data / "a.tsv").write_text(frame.write_csv(separator="\t"))
    (data / "a.jsonl").write_text(lines)
    (data / "a.json").write_text(json.dumps(ROWS))
    (data / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    (data / "a.txt").write_text("\n".join(row["text"] for row in ROWS))
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, data / "a.parquet")
    with pa.ipc.new_file(data / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    with sqlite3.connect(data / "a.sqlite") as database:
        database.execute("CREATE TABLE reviews (text TEXT, label TEXT)")
        database.executemany("INSERT INTO reviews VALUES (:text, :label)", ROWS)
    database.close()
    with zipfile.ZipFile(data / "a.zip", "w") as archive, tarfile.open(data / "a.tar.gz", "w:gz") as tar:
        for n, row in enumerate(ROWS):
            archive.writestr(f"d/{row['label']}/{n}.txt", row["text"])
            member = tarfile.TarInfo(f"d/{row['label']}/{n}.txt")
            member.size = len(row["text"])
            tar.addfile(member, io.BytesIO(row["text"].encode()))
    tiny.save(folder / "model", "bert")
    questions = folder / "questions"
    questions.mkdir()
    (questions / "mine.sql").write_text(QUESTION)
    (questions / "mine.vl.json").write_text(json.dumps({"mark": "bar", "encoding": {"x": {"field": "n"}}}))


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The bytes changed at a few places: bits, bytes, pieces removed, doubled or zeroed, or the end cut off."""
    found = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        if not found:
            break
        at, size = chance.randrange(len(found)), chance.randint(1, 40)
        way = chance.choice(["bit", "bit", "byte", "byte", "gone", "twice", "zeros", "cut", "digits"])
        if way == "bit":
            found[at] ^= 1 << chance.randrange(8)
        elif way == "byte":
            found[at] = chance.randrange(256)
        elif way == "gone":
            del found[at : at + size]
        elif way == "twice":
            found[at:at] = found[at : at + size]
        elif way == "zeros":
            found[at : at + size] = bytes(len(found[at : at + size]))
        elif way == "digits":
            found[at:at] = b"9" * size
        else:
            del found[max(at, len(found) // 2) :]
    return bytes(found)


def _read(folder: Path, kind: str, name: str) -> None:
    if kind == "data":
        survey(open_source(SourceConfig(str(folder / kind / name))))
    elif kind == "questions":
        find_questions(folder / kind)
    else:
        config = RunConfig(SourceConfig("none"), model=str(folder / kind), device="cpu", dtype="float32")
        load_classifier(config, resolve_reductions(config.reductions))


def trial(sound: Path, folder: Path, chance: random.Random) -> str:
    """Change one file of a copy of `sound` and read it. Returns `one line` or `read`, or raises AssertionError."""
    kind = chance.choice(["data", "data", "data", "model", "questions"])
    shutil.copytree(sound / kind, folder / kind)
    name = chance.choice(sorted(path.name for path in (folder / kind).iterdir()))
    path = folder / kind / name
    path.write_bytes(damaged(path.read_bytes(), chance))
    told = folder / "told"
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        try:
            _read(folder, kind, name)
            said = "read"
        except AttnstoreError as error:
            said = "one line" if "\n" not in str(error) else f"more than a line: {error}"
        except BaseException:
            said = traceback.format_exc()
        told.write_text(said, errors="backslashreplace")
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended == 0, f"{kind}/{name}: ended by signal {-ended}"
    said = told.read_text()
    assert said in ("read", "one line"), f"{kind}/{name}: {said[-1500:]}"
    shutil.rmtree(folder)
    return said


if __name__ == "__main__":  # python tests/faults/fuzz.py FOLDER SEED NUMBER
    place, seed, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    specimens(place / "sound")
    for n in range(number):
        print(trial(place / "sound", place / str(n), random.Random(f"{seed} {n}")))
