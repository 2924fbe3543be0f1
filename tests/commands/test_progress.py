"""Progress on a terminal from the first moment, and `--progress json`, with the page that describes it."""

import contextlib
import dataclasses
import json
import re
from pathlib import Path
from typing import get_args

import pytest
from command_line import attnstore, run

from attnstore import events
from attnstore.commands import progress

PAGE = (Path(__file__).parents[2] / "docs/batch.md").read_text()

#: Events of the commands themselves, beside those of long work.
OF_COMMANDS = {"failed": ["line"], "ended": ["exit_code", "seconds"]}


def objects(err):
    """The lines of stderr, each of which is one object, without their times."""
    read = [json.loads(line) for line in err.splitlines()]
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", each.pop("time")) for each in read
    )
    return read


@pytest.mark.slow
def test_run_reports_in_objects(tiny_model, reviews, tmp_path):
    """Start, progress and end, and nothing else on stderr. stdout is unchanged."""
    code, out, err = run(tmp_path / "s.attn", reviews, tiny_model, "--max-length", "40", "--progress", "json")
    first, counted, began, *computed, ended = objects(err)
    assert first == {"event": "surveyed", "documents": 1, "total": None}
    assert counted == {"event": "surveyed", "documents": 60, "total": 60}
    assert began == {
        "event": "started",
        "documents": 60,
        "notes": json.loads((tmp_path / "s.attn/manifest.json").read_text())["notes"],
    }
    assert {each["event"] for each in computed} <= {"computed", "noted"}
    assert computed[-1]["documents"] == computed[-1]["total"] == 60
    assert (code, ended.pop("seconds") >= 0, ended) == (0, True, {"event": "ended", "exit_code": 0})
    assert out.startswith("60 documents, ")
    assert computed[-1]["tokens"] == int(re.search(r"([\d,]+) tokens", out)[1].replace(",", ""))


@pytest.mark.slow
def test_verification_reports_in_objects(small_store):
    """How many documents of the files and of the sample have been checked. Findings stay on stdout."""
    code, out, err = attnstore("verify", small_store, "--sample", "2", "--progress", "json")
    stored, recomputed = (
        [e for e in objects(err) if e.get("what") == what] for what in ("stored", "recomputed")
    )
    assert (code, len(re.findall("^ok", out, re.MULTILINE)), "FAULT" in out) == (0, 12, False)
    of_files = {"event": "checked", "what": "stored", "total": 60}
    assert stored == [of_files | {"documents": 25}, of_files | {"documents": 60}]
    assert recomputed[-1] == {"event": "checked", "what": "recomputed", "documents": 2, "total": 2}
    assert attnstore("verify", small_store, "--sample", "2", "--quiet") == (0, out, "")


def test_one_object_in_ten_seconds(monkeypatch, capsys):
    """Of progress, the first object, the last, and one every ten seconds; notes always.

    NaN, which is not JSON, does not occur.
    """
    seconds = iter([0.0, 1.0, 9.9, 10.0, 10.1, 11.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    monkeypatch.setattr("attnstore.commands.output._objects", True)
    with progress.shown("json") as on_event:
        for done in (1, 2, 3, 4, 5, 6):
            on_event(events.Noted(f"note {done}\x1b"))
            on_event(events.Computed(done, 6, done))
    told = objects(capsys.readouterr().err)
    assert [e["line"] for e in told if e["event"] == "noted"] == [f"note {n}\x1b" for n in range(1, 7)]
    assert [e["documents"] for e in told if e["event"] == "computed"] == [1, 4, 6]
    monkeypatch.setattr(progress.time, "monotonic", lambda: 0.0)
    with progress.shown("json") as on_event:
        on_event(events.Trained("train", 1, 2, 0.5, 1.0, 1.0, loss=float("nan")))
    (trained,) = objects(capsys.readouterr().err)
    assert (trained["event"], trained["loss"], trained["dev_accuracy"]) == ("trained", None, None)


@pytest.mark.parametrize(
    ("command", "code", "line"),
    [
        (("verify", "nowhere.attn"), 1, "nowhere.attn does not exist: give the directory that a run wrote"),
        (("run", "s", "--limit", "0"), 2, "Invalid value for '--limit': 0 is not in the range x>=1."),
        (
            ("faithfulness", "s", "--quiet"),
            2,
            "--quiet is --progress none, not --progress json: leave one out",
        ),
    ],
)
def test_an_error_is_an_object_too(command, code, line, tmp_path):
    """The line that a user would read, and the exit code. The next command prints plain text again."""
    ended, out, err = attnstore(*command, "--progress", "json", cwd=tmp_path)
    failed, last = objects(err)
    assert (ended, out, last["event"], last["exit_code"]) == (code, "", "ended", code)
    assert failed["event"] == "failed"
    assert failed["line"].startswith(line)
    assert attnstore("info", "nowhere.attn", cwd=tmp_path)[2].startswith("attnstore: nowhere.attn does not")


@pytest.mark.parametrize("ends", ["with an event", "with an error", "without a word"])
def test_a_terminal_shows_at_once_that_something_is_loading(monkeypatch, capsys, ends):
    """Before anything is imported. The line is removed before other output."""
    monkeypatch.setattr(progress, "shows", lambda stream: True)
    with contextlib.suppress(ValueError), progress.shown() as on_event:
        assert capsys.readouterr().err == "loading ..."
        if ends == "with an event":
            on_event(events.Noted("a line"))
            assert capsys.readouterr().err == f"\r{' ' * 11}\rnote: a line\n"
        elif ends == "with an error":
            raise ValueError
    assert capsys.readouterr().err == ("" if ends == "with an event" else f"\r{' ' * 11}\r")


def test_the_page_has_every_event_with_its_fields():
    """docs/batch.md lists the same fields of each event as the code."""
    rows = re.findall(r"^\| `(\w+)` \| (`.*?`) \|", PAGE, re.MULTILINE)
    documented = {name: re.findall(r"`(\w+)`", fields) for name, fields in rows}
    expected = {
        each.__name__.lower(): [field.name for field in dataclasses.fields(each)]
        for each in get_args(events.Event)
    }
    assert documented == expected | OF_COMMANDS
