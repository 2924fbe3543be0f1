"""Text files with one document per line: fastText's, pairs of text and label files, one file per class.

| files | labels |
|---|---|
| lines that begin or end with `__label__x` (fastText, flair) | x |
| `train_text.txt` beside `train_labels.txt` (tweet_eval), line by line | the twin's; `mapping.txt` names numbers |
| `train.txt` beside `train.labels`, `train.source` beside `train.target` | the twin's |
| `pos.txt` and `neg.txt`, `rt-polarity.pos` and `.neg`: names of classes | the name |
| `train.txt`, `test.txt`: names of splits; any file with `--format lines` | none |

Lines that are rows of a table, or begin with another kind of label, are refused unless `--format lines` requests them
as they are: the label would be read as part of the text.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import PurePosixPath

from attnstore.data.class_names import classes_in
from attnstore.data.columns import USUAL_COLUMNS
from attnstore.data.files import Files
from attnstore.data.splits import SPLIT_WORDS, split_in
from attnstore.data.streams import decompressed, lines, too_large
from attnstore.errors import DataError, UsageError
from attnstore.messages import one_line

_FASTTEXT = "__label__"
_WORDS = re.compile(r"[^a-z]+")
#: How many lines show that they are not only texts, and the share that must agree.
_FEW, _NEARLY_ALL = 4, 0.9
_SHORT = 40  # bytes of a class's name
#: A number, or a class with a finer one (TREC's `NUM:dist`): no text begins like this on every line. A sentence as a
#: tree of its phrases, as in the Penn and the Stanford treebanks.
_TREE = re.compile(rb"\s*\((\S+ )?\(.*\)\s*$")
_MOST_TAGS = 5  # columns of a file with a token per line
#: What may separate a text from its label.
_SIGNS = (b"@", b"#", b"~", b"^", b"=", b"\x01")
_CODE = re.compile(rb"[+-]?[0-9]{1,2}|[A-Z]+:\w+")


@dataclass(frozen=True, slots=True)
class LineFile:
    """A file with one text per line. `label` is the label of all its lines, `labels` the file with one per line."""

    name: str
    split: str | None
    label: str | None = None
    labels: str | None = None
    tagged: bool = False  # each line begins with its label


@dataclass(frozen=True, slots=True)
class Line:
    """A text with its label, or the reason why there is none."""

    number: int
    text: bytes
    label: bytes | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LineFiles:
    """All files of a source, and the guesses about them."""

    files: Sequence[LineFile]
    notes: tuple[str, ...] = field(default=())


def line_files(files: Files, names: Sequence[str], asked: bool, in_folders: bool = False) -> LineFiles | None:
    """How to read the text files `names` by lines; None if each is a document. `asked`: the user requests lines.

    `in_folders`: they are in several folders, which may be classes, with a document per file.
    """
    tagged = [name for name in names if _is_tagged(files, name)]
    if tagged:
        others = [name for name in names if name not in tagged]
        if others:
            raise DataError(
                f"{one_line(tagged[0])} has a label at the beginning of each line, {one_line(others[0])} does not"
            )
        return LineFiles([LineFile(name, _split(name), tagged=True) for name in names])
    twins = {name: twin for name in names if (twin := _twin(name, names)) is not None}
    if twins:
        found = [LineFile(name, _split(name), labels=twin) for name, twin in twins.items()]
        return LineFiles(found)
    if classes := classes_in(names):
        found = [LineFile(name, _split(name), label=label) for name, label in classes.items()]
        return LineFiles(found, notes=("a text per line; the files' names are the labels",))
    if in_folders and not asked:
        return None
    hidden = {name: label for name in names if (label := _hidden_label(files, name))}
    if len(hidden) == len(names):
        first, (what, advice) = next(iter(hidden.items()))
        if not asked:
            unknown = "unknown file format: choose one with --format: " if files.named else ""
            raise UsageError(
                f"{one_line(first)}: {unknown}{what}: {advice}; --format lines reads each line as it is"
            )
    by_split = all(set(_WORDS.split(_stem(name))) & SPLIT_WORDS.keys() for name in names)
    if asked or by_split:
        return LineFiles(
            [LineFile(name, _split(name)) for name in names],
            notes=(
                "a text per line; the lines have no labels",
                *(
                    f"{one_line(name)}: {what}, which is read as text: {advice}"
                    for name, (what, advice) in hidden.items()
                ),
            ),
        )
    return None


def lines_of(files: Files, file: LineFile, most: int) -> Iterator[Line]:
    """The texts of a file, at most `most` bytes each, without empty lines.

    Raises DataError if its twin has other lines.
    """
    with decompressed(files.open(file.name)) as texts:
        if file.labels is None:
            for number, line in enumerate(lines(texts, most), start=1):
                if line is None:
                    yield Line(number, b"", reason=too_large(most))
                    continue
                text = line.rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf" if number == 1 else b"")
                if not text.strip():
                    continue
                yield (
                    _tagged(number, text)
                    if file.tagged
                    else Line(number, text, file.label.encode() if file.label is not None else None)
                )
            return
        with decompressed(files.open(file.labels)) as labels:
            yield from _twins(file, lines(texts, most), lines(labels, most), most)


def _twins(
    file: LineFile, texts: Iterator[bytes | None], labels: Iterator[bytes | None], most: int
) -> Iterator[Line]:
    for number, (text, label) in enumerate(zip_longest(texts, labels, fillvalue=""), start=1):
        if isinstance(text, str) or isinstance(label, str):
            short, other = (file.name, label) if isinstance(text, str) else (file.labels, text)
            if other is None or (other and other.strip()):
                raise DataError(f"{one_line(short)} ends before line {number:,}, which its twin has")
            return
        if text is None or label is None:
            yield Line(number, b"", reason=too_large(most))
        else:
            yield Line(number, text.rstrip(b"\r\n"), label.strip())


def _tagged(number: int, line: bytes) -> Line:
    """A line of fastText: labels, then the text."""
    words = line.split(None, 1)
    tag = _FASTTEXT.encode()
    if not words[0].startswith(tag):
        *rest, last = line.rsplit(None, 1)
        if last.startswith(tag) and rest and tag not in rest[0]:
            return Line(number, rest[0], last.removeprefix(tag))
        return Line(number, line, reason="no label at the beginning of the line")
    text = words[1] if len(words) > 1 else b""
    if text.startswith(tag):
        return Line(number, text, reason="several labels")
    return Line(number, text, words[0].removeprefix(tag))


def _is_tagged(files: Files, name: str) -> bool:
    tag, lines = _FASTTEXT.encode(), _beginning(files, name)[:20]
    tagged = [
        any(word.startswith(tag) for word in (line.split(None, 1)[0], line.rsplit(None, 1)[-1]))
        for line in lines
    ]
    return bool(lines) and sum(tagged) >= len(lines) / 2


def _beginning(files: Files, name: str) -> list[bytes]:
    """The whole lines at a file's beginning that are not blank."""
    with decompressed(files.open(name)) as stream:
        start = stream.read(1 << 16)
    lines = start.removeprefix(b"\xef\xbb\xbf").splitlines()
    return [line for line in (lines if len(start) < 1 << 16 else lines[:-1]) if line.strip()]


def _hidden_label(files: Files, name: str) -> tuple[str, str] | None:
    """What in a file's lines is not text, and what to do about it; None if all is text."""
    lines = _beginning(files, name)
    return None if len(lines) < _FEW else _no_prose(lines) or _cells(lines) or _label_before(lines)


def _cells(lines: Sequence[bytes]) -> tuple[str, str] | None:
    """The same, if the lines are rows of a table."""
    for separator, called, format_ in (
        (b"\t", "tabs", "tsv"),
        (b";", "semicolons", "csv"),
        (b"|", "bars", "csv"),
    ):
        cells = lines[0].count(separator)
        if not cells or sum(line.count(separator) == cells for line in lines) < _NEARLY_ALL * len(lines):
            continue
        ends = ([line.split(separator)[place].strip() for line in lines] for place in (0, -1))
        if separator == b"\t" or any(_are_classes(each) for each in ends):
            return f"its lines are cells between {called}", f"--format {format_} reads a table"
    if _are_comma_separated(lines):
        return "its lines are cells between commas", "--format csv reads a table"
    for sign in _SIGNS:
        if all(sign in line for line in lines) and _are_classes(
            [line.rpartition(sign)[2].strip() for line in lines]
        ):
            shown = sign.decode()
            return (
                f"its lines end with a label after {shown!r}",
                f"--format csv --delimiter '{shown}' reads a table",
            )
    return None


def _label_before(lines: Sequence[bytes]) -> tuple[str, str] | None:
    """The same, if each line begins with a label."""
    firsts = [line.split(None, 1)[0] for line in lines]
    if _are_classes(firsts) and sum(bool(_CODE.fullmatch(each)) for each in firsts) >= _NEARLY_ALL * len(
        lines
    ):
        shown = one_line(firsts[0].decode(errors="replace"))
        return (
            f"its lines begin with a label ({shown}) and not with their text",
            f"sed 's/^/{_FASTTEXT}/' FILE writes labels as they are read",
        )
    return None


def _no_prose(lines: Sequence[bytes]) -> tuple[str, str] | None:
    """What lines are if they are not running text, and what to do; None if they may be texts."""
    enough = _NEARLY_ALL * len(lines)
    if sum(line.lstrip()[:1] == b"{" and line.rstrip()[-1:] == b"}" for line in lines) >= enough:
        return "its lines are JSON objects", "--format jsonl reads them"
    if sum(bool(_TREE.match(line)) and line.count(b"(") == line.count(b")") for line in lines) >= enough:
        return "its lines are parse trees, not texts", "write their sentences and labels as a table"
    words = [line.split() for line in lines]
    width = len(words[-1])
    tags = [line[-1] for line in words]
    are_alike = 2 <= width <= _MOST_TAGS and sum(len(line) == width for line in words) >= enough
    if are_alike and b"O" in tags and _are_classes(tags):
        return "its lines are tokens with tags, not texts", "attnstore classifies whole texts"
    return None


def _are_comma_separated(lines: Sequence[bytes]) -> bool:
    """Whether lines are the rows of a CSV: with one width, and names in the first row or classes at one end."""
    rows = list(csv.reader(line.decode("utf-8", "replace") for line in lines))
    width = len(rows[0])
    if width < 2 or sum(len(row) == width for row in rows) < _NEARLY_ALL * len(rows):
        return False
    if any(cell.strip().casefold() in USUAL_COLUMNS for cell in rows[0]):
        return True
    ends = ([row[place].strip().encode() for row in rows if row] for place in (0, -1))
    return any(_are_classes(each) for each in ends)


def _are_classes(words: Sequence[bytes]) -> bool:
    """Whether a few short values repeat, as classes do."""
    return len(set(words)) <= max(2, len(words) / 4) and all(0 < len(word) <= _SHORT for word in words)


def _twin(name: str, names: Sequence[str]) -> str | None:
    """The file with the labels of the texts in `name`."""
    stem = _whole(name)
    for text, label in (
        (".txt", ".labels"),
        (".txt", ".label"),
        ("", ".labels"),
        ("", ".label"),
        (".source", ".target"),
    ):
        if name.endswith(text) and not name.endswith(label):
            twin = name[: len(name) - len(text)] + label
            if twin in names:
                return twin
    for text, label in (("text", "labels"), ("texts", "labels"), ("text", "label"), ("sentences", "labels")):
        if re.search(rf"(^|[_.-]){text}$", stem):
            with suppress(StopIteration):
                wanted = stem[: -len(text)] + label
                folder = PurePosixPath(name).parent
                return next(n for n in names if _whole(n) == wanted and PurePosixPath(n).parent == folder)
    return None


def _stem(name: str) -> str:
    return PurePosixPath(name.lower()).name.partition(".")[0]


def _whole(name: str) -> str:
    """The name of a file in lower case, without `.txt`."""
    return PurePosixPath(name).name.lower().removesuffix(".txt")


def _split(name: str) -> str | None:
    """The split in a file's name, else in that of the nearest folder with one."""
    above = [SPLIT_WORDS[folder] for folder in name.lower().split("/")[:-1] if folder in SPLIT_WORDS]
    return split_in(PurePosixPath(name).name) or (above[-1] if above else None)
