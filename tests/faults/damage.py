"""Damage to a sealed store's files: a flipped bit, a changed byte, truncation, zeros, bytes of another file."""

import random
import shutil
from pathlib import Path

import polars as pl
from faults import merging
from small_store import manifest, run

import attnstore
from attnstore.check.verify import verify_files
from attnstore.errors import AttnstoreError
from attnstore.store.store import open_store


@merging
def sealed_store(path: Path) -> Path:
    """The store to be damaged: sealed, with small files merged."""
    return run(path, manifest()).path


def damage(path: Path, chance: random.Random) -> str:
    """Change one file of the store in a random way. Returns a description."""
    while True:  # zeros instead of zeros are no damage
        file, content, done = _drawn(path, chance)
        if file.read_bytes() != content:
            file.write_bytes(content)
            return done


def _drawn(path: Path, chance: random.Random) -> tuple[Path, bytes, str]:
    file = chance.choice(sorted(p for p in path.rglob("*") if p.is_file()))
    content = bytearray(file.read_bytes())
    at = chance.randrange(len(content))
    way = chance.choice(["bit", "bit", "bit", "byte", "cut", "zeros", "longer"])
    if way == "bit":
        content[at] ^= 1 << chance.randrange(8)
    elif way == "byte":
        content[at] = chance.randrange(256)
    elif way == "cut":
        del content[at:]
    elif way == "zeros":
        size = chance.randint(1, 64)
        content[at : at + size] = bytes(len(content[at : at + size]))
    else:
        content += chance.randbytes(chance.randint(1, 64))
    return file, bytes(content), f"{way} at {at:,} of {file.relative_to(path)}"


def _rounded(answer: object) -> object:
    """An answer without the last digits of its numbers, which depend on the order in which DuckDB's threads add up."""
    if isinstance(answer, float):
        return float(f"{answer:.12g}")
    if isinstance(answer, dict):
        return {key: _rounded(value) for key, value in answer.items()}
    if isinstance(answer, list | tuple):
        return [_rounded(value) for value in answer]
    return answer


def asked(path: Path) -> dict[str, object]:
    """The result of each way to ask: an answer, or the one-line error. Raises any other exception."""
    ways = {
        "documents": lambda reader: reader.documents().select("document", "length", "text").collect().rows(),
        "tokens": lambda reader: reader.tokens().select(pl.col("cls_01", "odd").sum()).collect().rows(),
        "sql": lambda reader: reader.sql("SELECT sum(cls_02), sum(length) FROM tokens").to_pylist(),
        "duckdb": lambda reader: reader.query("top_words_by_class").to_pylist(),
        "polars": lambda reader: reader.query("top_words_by_class", engine="polars").to_pylist(),
        "show": lambda reader: str(reader.show("@0")),
    }
    found: dict[str, object] = {}
    for name, way in ways.items():
        try:
            found[name] = _rounded(way(attnstore.open(path)))
        except (AttnstoreError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            # The frames are Polars' own, and so are the errors when a caller collects them.
            if not isinstance(error, AttnstoreError) and name not in ("documents", "tokens"):
                raise
            found[name] = type(error)
    return found


def trial(sealed: Path, expected: dict[str, object], folder: Path, chance: random.Random) -> str:
    """Damage a copy of a sealed store and ask it. Returns `refused`, `harmless` or `wrong, and verify sees it`.

    `expected`: the result of `asked` for the sealed store. || Raises AssertionError if an answer is wrong and verify
    finds nothing, or if an error is not a one-line user error.
    """
    path = folder / "store"
    shutil.copytree(sealed, path)
    try:
        done = damage(path, chance)
        found = asked(path)
        wrong = [
            name
            for name, answer in found.items()
            if not isinstance(answer, type) and answer != expected[name]
        ]
        try:
            faults = [finding for finding in verify_files(open_store(path)) if not finding.ok]
        except AttnstoreError as error:
            assert "\n" not in str(error), done
            faults = [error]
        assert not wrong or faults, (done, wrong)
        if wrong:
            return "wrong, and verify sees it"
        return "refused" if any(isinstance(answer, type) for answer in found.values()) else "harmless"
    finally:
        shutil.rmtree(path)
