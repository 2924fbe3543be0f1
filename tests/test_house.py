"""The house: which rooms may import which, and which rooms may use which libraries."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from nursery import Child

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "attnstore"
#: Every module of the package by its dotted name below `attnstore`; the package itself is "".
MODULES = {
    ".".join(p.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): p
    for p in sorted(PACKAGE.rglob("*.py"))
}
#: Modules outside the rooms, which import none of them.
GROUND = {"errors", "messages", "visible", "config", "events", "cache", "interrupts", "embedded", "buckets"}

#: For each room, or module outside the rooms, what it may import beside itself and the ground. One that is not listed
#: fails the test: describe it in docs/house.md.
MAY_IMPORT: dict[str, set[str]] = {
    "data": set(),
    "store": set(),
    "engine": {"data", "store"},
    "pipeline": {"data", "engine", "store"},
    "ask": {"store"},
    "show": {"ask", "store"},
    "check": {"ask", "data", "engine", "store"},
    "learn": {"data", "engine"},
    "convert": set(),
    "reader": {"ask", "show", "store"},
    "api": {"data", "engine", "pipeline", "reader"},
    "commands": {
        "api",
        "ask",
        "check",
        "convert",
        "data",
        "engine",
        "learn",
        "pipeline",
        "reader",
        "show",
        "store",
    },
    "": {"api"},
    "__main__": {"commands"},
} | {name: set() for name in GROUND}

#: The rooms that may use a library; the rest of the package may not import it.
ONLY_IN = {
    "click": {"commands"},
    "tqdm": {"commands"},
    "jinja2": {"show"},
    "starlette": {"show"},
    "uvicorn": {"show"},
    "vl_convert": {"show"},
    "torch": {"engine", "check", "learn"},
    "transformers": {"engine", "learn", "convert"},
    "google_crc32c": {"convert"},
    "triton": {"engine"},
    "filelock": {"store"},
    "obstore": {"buckets"},
    "ray": {"pipeline"},
    "fsspec": {"ask", "data"},
    "duckdb": {"data", "store", "ask", "check"},  # data: a DuckDB file may be the source
    "polars": {"store", "ask", "show", "check", "reader"},
    "cli": set(),
    "tests": set(),
}


def room(module: str) -> str:
    return module.partition(".")[0]


@cache
def imports(path: Path) -> tuple[set[str], set[str]]:
    """(own modules by dotted name, other libraries) that a file imports anywhere, inside functions too."""
    own, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            below = module.removeprefix("attnstore").lstrip(".")
            for alias in node.names:
                inner = f"{below}.{alias.name}".lstrip(".")
                is_module = module.partition(".")[0] == "attnstore" and inner in MODULES
                names.append(f"{module}.{alias.name}" if is_module else module)
        for name in names:
            first, _, rest = name.partition(".")
            if first == "attnstore":
                own.add(rest)
            else:
                others.add(first)
    return own, others


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_the_rooms_upstream_of_it(name):
    """Data moves one way: each room knows its inputs, and nothing of later rooms."""
    own, _ = imports(MODULES[name])
    rooms = {room(module) for module in own} - {room(name), "", *GROUND}
    assert rooms <= MAY_IMPORT[room(name)], f"{name} imports {rooms - MAY_IMPORT[room(name)]}"


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_used_only_where_it_belongs(library):
    """torch ends at the engine, only the commands use click, and DuckDB is used where stores are read."""
    found = {room(name) for name, path in MODULES.items() if library in imports(path)[1]}
    assert found <= ONLY_IN[library]


@pytest.mark.parametrize("of", ["modules", "rooms"])
def test_there_are_no_import_cycles(of):
    """The actual imports can be put in an order, for modules and for rooms."""
    graph = {name: imports(path)[0] & MODULES.keys() - {name} for name, path in MODULES.items()}
    if of == "rooms":
        rooms: dict[str, set[str]] = {}
        for name, needs in graph.items():
            rooms.setdefault(room(name), set()).update(map(room, needs))
        graph = {name: needs - {name} for name, needs in rooms.items()}
    # The package's own __init__ loads lazily, and every module may import the version from it.
    graph = {name: needs - {""} for name, needs in graph.items()}
    while graph:
        free = [name for name, needs in graph.items() if not needs & graph.keys()]
        assert free, f"a circle among {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in free}


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import attnstore", ("torch", "transformers", "polars", "pyarrow", "duckdb", "click", "numpy")),
        ("import attnstore.commands", ("torch", "transformers", "polars", "pyarrow", "duckdb", "numpy")),
        # The forward pass does not wait for the libraries that read stores. Slow: the first child waits for torch.
        pytest.param("import attnstore.pipeline.run", ("polars", "duckdb"), marks=pytest.mark.slow),
    ],
)
def test_fast_commands_wait_for_no_heavy_import(statement, forbidden):
    """`import attnstore` and `attnstore --help` load none of the large libraries, and a run only those it needs."""
    code = f"{statement}, sys; print(*sys.modules)"
    if "torch" in forbidden:
        loaded = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
    else:  # a fork has imported a run, torch and transformers, and nothing else
        with Child(code) as child:
            loaded, _ = child.communicate()
    assert statement.removeprefix("import ") in loaded.split()
    assert set(forbidden) & set(loaded.split()) == set()


def test_no_two_test_files_have_the_same_name():
    """pytest imports them by their names alone, and would fail to collect them."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_no_test_imports_from_a_conftest():
    """Several rooms have one, and `import conftest` finds whichever was collected first."""
    found = [path for path in Path(__file__).parent.rglob("*.py") if "conftest" in imports(path)[1]]
    assert found == []


def test_the_launcher_imports_only_the_commands():
    """`cli.py` stays a launcher."""
    own, others = imports(ROOT / "cli.py")
    assert (set(map(room, own)), others) == ({"commands"}, set())
