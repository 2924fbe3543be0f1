"""The shipped wheel is complete."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel built from a copy of the tree, so that no build folder is left in it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to the tree is not known")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = ["--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *build], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_the_package_the_questions_and_the_embedded_data(wheel):
    """Every module, every question in both engines, reviews and model; no tests, and no top-level `cli`."""
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {n for n in names if ".dist-info/" not in n}
    assert {n.split("/")[0] for n in package} == {"attnstore"}
    expected = {
        str(p.relative_to(ROOT))
        for p in (ROOT / "attnstore").rglob("*") if p.is_file() and "__pycache__" not in p.parts
    }  # fmt: skip
    expected |= {f"attnstore/queries/{p.name}" for p in (ROOT / "queries").iterdir() if p.is_file()}
    assert package == expected


def test_the_wheel_alone_in_an_empty_folder_runs_and_answers(wheel, tmp_path):
    """Installed without the checkout: `run` with its own model and reviews, and one of its own questions."""
    if not (ROOT / "attnstore/embedded/model/config.json").is_file():
        pytest.skip("this checkout has no embedded model")
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # Before the editable checkout on the path; -P keeps the current folder off the path.
    command = [sys.executable, "-P", "-c", "import attnstore.commands as c; print(c.__file__); c.main()"]
    environment = os.environ | {"PYTHONPATH": str(site), "NO_COLOR": "1"}

    def call(*arguments):
        return subprocess.run(
            [*command, *arguments], cwd=empty, env=environment, capture_output=True, text=True, check=False
        )

    done = call("run", "--max-length", "32", "--limit", "20")
    assert done.returncode == 0, done.stderr
    where, *lines = done.stdout.splitlines()
    assert where == str(site / "attnstore/commands/__init__.py")
    assert lines[0].startswith("20 documents, ")
    assert any(line.startswith("accuracy 0.") for line in lines)
    asked = call(
        "query", "demo.attn", "top_words_by_class", "-p", "limit=3", "--engine", "polars", "--format", "csv"
    )
    assert asked.returncode == 0, asked.stderr
    assert len(asked.stdout.splitlines()) == 1 + 1 + 6
