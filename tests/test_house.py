"""The house: who may import whom, and where which library may stand."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {p.stem: p for p in sorted((ROOT / "attnstore").glob("*.py"))}

#: What each room may know of the others. A module that is not listed fails the test: give it a place.
MAY_IMPORT = {
    "errors": set(),
    "interrupts": set(),
    "memory": set(),
    "cache": set(),
    "schema": {"errors"},
    "config": set(),
    "files": {"errors"},
    "imdb": {"cache", "errors", "files"},
    "tables": {"config", "errors", "files"},
    "texts": {"errors", "files", "imdb"},
    "documents": {"config", "errors", "files", "imdb", "tables", "texts"},
    "batches": {"documents"},
    "reductions": {"errors", "schema"},
    "classifier": {"batches", "config", "errors", "reductions", "kernel", "cuda", "linears"},
    "linears": set(),
    "column_sums": set(),
    "cuda": {"column_sums", "reductions", "__init__"},
    "compiler": {"cache"},
    "kernel": {"compiler", "reductions"},
    "durable": {"errors"},
    "store": {"durable", "errors", "schema"},
    "totals": set(),
    "rows": {"batches", "classifier", "schema"},
    "pipeline": {
        "interrupts",
        "memory",
        *("batches", "classifier", "config", "documents", "errors", "reductions", "rows", "schema", "store"),
        "kernel",
        "views",
        "__init__",
    },
    "verify": {"schema", "store", "totals", "views", "durable", "errors"},
    "oracle": {"classifier", "config", "errors", "schema", "store", "verify"},
    "statistics": set(),
    "terms": {"statistics"},
    "views": {"errors", "schema", "statistics", "store", "totals"},
    "questions": {"errors", "schema", "store", "views"},
    "heatmap": {"errors"},
    "formats": {"errors", "heatmap"},
    "reader": {"errors", "heatmap", "questions", "schema", "store"},
    "finetune": {
        "interrupts",
        "memory",
        "__init__",
        "classifier",
        "config",
        "documents",
        "errors",
        "batches",
    },
    "api": {"compiler", "config", "embedded", "errors", "pipeline", "reader"},
    "commands": {
        *("__init__", "compiler", "config", "embedded", "errors", "finetune", "formats", "heatmap", "oracle"),
        "pipeline",
        *("questions", "reader", "schema", "store", "verify"),
    },
    "__init__": {"api", "errors"},
}

#: Where a library may stand; the rest of the package may not know it.
ONLY_IN = {
    "click": {"commands"},
    "torch": {
        "batches",
        "classifier",
        "column_sums",
        "cuda",
        "finetune",
        "kernel",
        "linears",
        "oracle",
        "reductions",
        "rows",
    },
    "triton": {"column_sums"},
    "transformers": {"classifier", "finetune", "linears"},
    "duckdb": {"views"},
}


def imports(path):
    """(own modules, other libraries) that a file imports anywhere in it, inside functions too."""
    own, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "attnstore":
            names = [f"attnstore.{a.name}" if f"{a.name}" in MODULES else "attnstore" for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [node.module or ""]
        for name in names:
            first, _, rest = name.partition(".")
            if first == "attnstore":
                own.add(rest.partition(".")[0] or "__init__")
            else:
                others.add(first)
    return own, others


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_the_rooms_upstream_of_it(name):
    """Data moves one way: each room knows what it is handed, and nothing of what comes after."""
    own, _ = imports(MODULES[name])
    assert own <= MAY_IMPORT[name], f"{name} imports {own - MAY_IMPORT[name]}"


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_stands_only_where_it_belongs(library):
    """torch ends at rows, click is known to the commands alone, DuckDB to the questions."""
    assert {name for name, path in MODULES.items() if library in imports(path)[1]} <= ONLY_IN[library]


def test_there_are_no_cycles():
    """The imports as they are, not as they may be, can be put in an order."""
    graph = {name: imports(path)[0] & MODULES.keys() - {"__init__"} for name, path in MODULES.items()}
    order = []
    while graph:
        free = [name for name, needs in graph.items() if not needs & graph.keys() - {name}]
        assert free, f"a cycle among {sorted(graph)}"
        order += free
        graph = {name: needs for name, needs in graph.items() if name not in free}


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import attnstore", ("torch", "transformers", "polars", "pyarrow", "duckdb", "click", "numpy")),
        ("import attnstore.commands", ("torch", "transformers", "polars", "pyarrow", "duckdb", "numpy")),
    ],
)
def test_what_must_answer_at_once_waits_for_no_heavy_import(statement, forbidden):
    """`import attnstore` and `attnstore --help` load none of the large libraries."""
    loaded = subprocess.run(
        [sys.executable, "-c", f"{statement}, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout.split()
    assert set(forbidden) & set(loaded) == set()


def test_the_launcher_knows_the_commands_and_nothing_more():
    """`cli.py` stays a launcher."""
    assert imports(ROOT / "cli.py") == ({"commands"}, set())
