"""Ask again what docs/questions.md and the examples in queries/ show, and put the answers in their places.

    python docs/answers.py imdb.attn=/somewhere/imdb.attn heads.attn=/somewhere/heads.attn

Each table stands below the command that it answers, and keeps its number of rows; of the questions in `CHOSEN` it
keeps the rows with the same keys. The lists of the last section stand below the options that they are of. The prose
is nobody's but the reader's: look through it when figures have changed.
"""

import re
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa

import attnstore

PAGE = Path(__file__).with_name("questions.md")
QUERIES = Path(__file__).parents[1] / "queries"

#: Questions whose answer is shown in part, and the columns that say which rows.
CHOSEN = {"sinks": ("class", "layer", "kind"), "layer_agreement": ("class", "length", "one", "other")}

#: The longest text in a cell.
WIDTH = 58

_COMMAND = re.compile(r"^`attnstore query (\S+) (\w+)(.*?)`.*\n\n((?:\|.*\n)+)", re.MULTILINE)
_SETTING = re.compile(r"^\*\*(?:nothing else.*?|`(.+?)`)\*\*\n\n((?:.+\n)+)\n((?:.+\n)+)", re.MULTILINE)


_EXAMPLE = re.compile(
    r"^(-- Example: attnstore query (\S+) (\w+)(.*?),\s(?:-- )?over .*\n)((?:--     .*\n)+)", re.MULTILINE
)


def parameters(options: str) -> dict[str, str]:
    """The parameters of `-p NAME=VALUE …`."""
    words = [word for word in shlex.split(options) if word != "-p"]
    return dict(word.split("=", 1) for word in words)


def shown(value: Any) -> str:
    """A cell: four digits, no line longer than it need be, nothing that Markdown would take for its own."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
    return text.replace("<", "&lt;").replace("|", "\\|")


def markdown(answer: pa.Table, name: str, before: str) -> str:
    """The answer as a table with the rows that the table `before` has."""
    rows = answer.to_pylist()
    old = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in before.splitlines()]
    if keys := CHOSEN.get(name):
        places = [old[0].index(key) for key in keys]
        wanted = {tuple(cells[place] for place in places) for cells in old[2:]}
        rows = [row for row in rows if tuple(shown(row[key]) for key in keys) in wanted]
    else:
        rows = rows[: len(old) - 2]
    head = f"| {' | '.join(answer.column_names)} |\n|{'---|' * answer.num_columns}\n"
    return head + "".join(f"| {' | '.join(map(shown, row.values()))} |\n" for row in rows)


def example(answer: pa.Table) -> str:
    """The first row as lines of a comment."""
    (row,) = answer.slice(0, 1).to_pylist()
    cells = [f"{name}={'null' if value is None else shown(value)}" for name, value in row.items()]
    lines = textwrap.wrap(", ".join(cells), 100, break_on_hyphens=False)
    return "".join(f"--     {line}\n" for line in lines)


def main() -> None:
    stores = {name: attnstore.open(path) for name, path in (item.split("=", 1) for item in sys.argv[1:])}
    page = PAGE.read_text(encoding="utf-8")

    def answered(found: re.Match[str]) -> str:
        store, name, options, table = found.groups()
        if store not in stores:
            return found[0]
        answer = stores[store].query(name, **parameters(options)).arrow()
        return found[0].removesuffix(table) + markdown(answer, name, table)

    def listed(found: re.Match[str]) -> str:
        options, *lists = found.groups()
        answer = (
            stores["imdb.attn"]
            .query("top_words_by_class", intervals=False, **parameters(options or ""))
            .to_pylist()
        )
        new = found[0]
        for old in lists:
            name = old.partition(":")[0]
            words = ", ".join(f"{row['word']} {row['lift']:.1f}" for row in answer if row["class"] == name)
            new = new.replace(old, textwrap.fill(f"{name}: {words}", 118, break_on_hyphens=False) + "\n")
        return new

    page = _COMMAND.sub(answered, page)
    if "imdb.attn" in stores:
        page = _SETTING.sub(listed, page)
    PAGE.write_text(page, encoding="utf-8")

    def exemplified(found: re.Match[str]) -> str:
        head, store, name, options, _ = found.groups()
        if store not in stores:
            return found[0]
        return head + example(stores[store].query(name, **parameters(options)).arrow())

    for path in sorted(QUERIES.glob("*.sql")):
        path.write_text(_EXAMPLE.sub(exemplified, path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
