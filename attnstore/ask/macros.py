"""DuckDB macros from files: those that a statement uses, and those that they use in turn."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_MACRO = re.compile(r"^CREATE OR REPLACE TEMP MACRO (\w+)\(", re.MULTILINE)
_CALL = re.compile(r"\b(\w+)\s*\(")


@cache
def macros_in(path: Path) -> Mapping[str, str]:
    """The statements that make a file's macros, by name, in file order, without the comments between them."""
    text = path.read_text(encoding="utf-8")
    starts = [(found[1], found.start()) for found in _MACRO.finditer(text)]
    ends = [start for _, start in starts[1:]] + [len(text)]
    return {
        name: text[start:end].rpartition(";")[0] + ";"
        for (name, start), end in zip(starts, ends, strict=True)
    }


def needed(sql: str, macros: Mapping[str, str]) -> list[str]:
    """The statements of those `macros` that `sql` calls, each after the macros it uses itself."""
    used: set[str] = set()
    asked = [sql]
    while asked:
        new = (macros.keys() & set(_CALL.findall(asked.pop()))) - used
        used |= new
        asked += [macros[name] for name in new]
    return [statement for name, statement in macros.items() if name in used]
