"""Commands without a usable output stream, temporary folder or working directory."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from command_line import attnstore
from nursery import Child
from reviews import write_reviews

from attnstore import commands
from attnstore.errors import StoreError
from attnstore.store.resume import create_or_resume
from attnstore.store.store import open_store

CLOSED = "attnstore: the standard output is closed: there is nowhere to write the answer\n"
FULL = "attnstore: can't write the answer: no space left on device\n"
pytestmark = pytest.mark.slow  # each is a separate process


#: The import path of this process, for a process that may have no working directory.
_FOLDERS = [str(Path(__file__).parents[2]), *(folder for folder in sys.path if Path(folder).is_absolute())]


def shell(line: str, *arguments: object, before: str = "", **options) -> subprocess.CompletedProcess:
    """`line` run by a shell, in which $0 is Python and "$@" are the arguments."""
    run = 'import sys; sys.argv[0] = "attnstore"; from attnstore.commands import main; ' + before + "main()"
    return subprocess.run(
        ["/bin/sh", "-c", line.replace("attnstore", '"$0" -c "$RUN" "$@"'), sys.executable, *map(str, arguments)],
        env=os.environ | {"RUN": run, "PYTHONPATH": os.pathsep.join(_FOLDERS)},
        capture_output=True, text=True, check=False, timeout=300, **options,
    )  # fmt: skip


@pytest.mark.parametrize(("redirected", "error"), [(">&-", CLOSED), (">/dev/full", FULL)])
def test_a_lost_answer_is_an_error(small_store, redirected: str, error: str) -> None:
    """A closed or full stdout: one line and exit code 1."""
    done = shell(f"attnstore {redirected}", "info", small_store)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", error)


@pytest.mark.parametrize(
    "asked",
    [
        ("query", "predictions"),
        ("sql", "SELECT 1 AS one"),
        ("sql", "SELECT 1", "--format", "csv"),
        ("show", "0"),
    ],
)
def test_a_lost_answer_of_any_command_is_an_error(small_store, asked, monkeypatch, capsys) -> None:
    """As above; this process gets the streams that Python creates in that case."""
    command, *rest = asked
    for stream, error in ((None, CLOSED), (Path("/dev/full").open("w"), FULL)):  # noqa: SIM115 - closed by `discard`
        with monkeypatch.context() as redirected, pytest.raises(SystemExit) as ended:
            redirected.setattr(sys, "stdout", stream)
            commands.main([command, str(small_store), *rest])
        assert (ended.value.code, *capsys.readouterr()) == (1, "", error)


def test_a_lost_stderr_does_not_affect_the_answer(small_store) -> None:
    """Closed or full, also with a closed standard input. Without a stdout, only the exit code remains."""
    code, answer, err = attnstore("info", small_store)
    assert (code, err) == (0, "")
    for redirected in ("2>/dev/full", "<&- 2>&-"):
        done = shell(f"attnstore {redirected}", "info", small_store)
        assert (done.returncode, done.stdout) == (0, answer)
    assert shell("attnstore >&- 2>&-", "info", small_store).returncode == 1


def test_a_report_is_written_without_a_stderr(small_store, tmp_path, monkeypatch) -> None:
    """The current question is shown only on a terminal, and a closed stderr is not one."""
    monkeypatch.setattr("attnstore.show.report.report", lambda _, asked: asked("predictions") or "<p>")
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(SystemExit) as ended:
        commands.main(["report", str(small_store), "-o", str(tmp_path / "r.html")])
    assert (ended.value.code, (tmp_path / "r.html").read_text()) == (0, "<p>")


#: `attnstore` without any stream, in the state in which the interpreter starts then.
STREAMLESS = """
import os, sys
for number in (0, 1, 2):
    os.close(number)
for name in ("stdin", "stdout", "stderr"):
    setattr(sys, name, None)
    setattr(sys, f"__{name}__", None)
from attnstore.commands import main
main()
"""


@pytest.mark.parametrize(
    ("redirected", "status"),
    [
        pytest.param("2>/dev/full", 0, marks=pytest.mark.exhaustive),
        pytest.param("<&- >&- 2>&-", 1, marks=pytest.mark.exhaustive),
        pytest.param(None, 1, id="no streams"),
    ],
)
def test_a_run_whose_progress_is_lost_finishes(tiny_model, tmp_path, redirected, status: int) -> None:
    """Lost progress ends no run, and no library's warning gets into a file of the store."""
    data = write_reviews(tmp_path / "reviews.csv", 12)
    store = tmp_path / "s.attn"
    command = ("run", store, "--data", data, "--model", tiny_model, "--device", "cpu")
    if redirected is None:
        with Child(STREAMLESS, *command) as child:
            assert child.communicate() == ("", "")
        ended = child.returncode
    else:
        ended = shell(f"attnstore {redirected}", *command).returncode
    assert (ended, open_store(store).sealed) == (status, True)
    assert attnstore("verify", store, "--sample", "0")[0] == 0


def test_work_continues_if_the_terminal_disappears() -> None:
    """Bars are no longer drawn, and the work continues."""
    script = (
        "import os, pty, sys; own, theirs = pty.openpty(); os.dup2(theirs, 2); os.close(theirs)\n"
        "from attnstore.commands.progress import shown\n"
        "from attnstore.events import Computed, Noted, Started\n"
        "assert sys.stderr.isatty()\n"
        "with shown() as on_event:\n"
        "    on_event(Started(10, ('a note',)))\n"
        "    os.close(own)\n"
        "    for n in range(1, 11): on_event(Computed(n, 10, n)); on_event(Noted('on'))\n"
        "print('done')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_a_store_name_that_is_not_utf8_is_refused_first(tmp_path: Path, small_store) -> None:
    """DuckDB and Polars can't open such files. A name with a NUL is refused, too."""
    name = tmp_path / "s\udcff.attn"
    refusal = f"attnstore: can't use {tmp_path}/s⟨U+DCFF⟩.attn: the name is not UTF-8: rename it\n"
    assert attnstore("info", name) == (1, "", refusal)
    manifest = open_store(small_store).manifest
    with pytest.raises(StoreError, match="the name is not UTF-8: rename it"):
        create_or_resume(name, manifest)
    with pytest.raises(StoreError, match="there is a NUL in the name"):
        open_store(tmp_path / "a\0b")
    assert list(tmp_path.iterdir()) == []


def test_no_folder_for_temporary_files(small_store, tmp_path, monkeypatch) -> None:
    """Questions need none unless they exceed the memory. A command that needs one says so."""
    with monkeypatch.context() as without:
        without.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
        without.setattr(tempfile, "tempdir", None)
        code, _, err = attnstore("query", small_store, "predictions")
    assert (code, err) == (0, "")
    before = "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/nowhere']; "
    asked = ("run", tmp_path / "s", "--data", "-", "--labels", "none")
    done = shell("attnstore", *asked, before=before, input="text\na\n")
    assert done.returncode == 1
    assert done.stderr == "attnstore: no folder for temporary files is writable: set TMPDIR to one that is\n"


def test_no_working_directory(small_store, tmp_path) -> None:
    """One line, because torch would end the process."""
    gone = tmp_path / "gone"
    gone.mkdir()
    done = shell('rmdir "$PWD"; attnstore', "info", small_store, cwd=gone)
    expected = (
        "attnstore: the working directory can't be read (no such file or directory): change to another\n"
    )
    assert (done.returncode, done.stderr) == (1, expected)
