"""A killed fine-tuning leaves a folder from which it can resume, or a complete model."""

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from attnstore.config import SourceConfig
from attnstore.errors import AttnstoreError, UsageError
from attnstore.learn.checkpoints import FINISHED, LAST, begin, finish, finished
from attnstore.learn.config import CHECKPOINTS, FinetuneConfig, FinetuneResult, check
from attnstore.learn.examples import Split

SPLITS = {"train": Split([], [], [])}
MODEL = {"config.json": "{}", "model.safetensors": "weights", "README.md": "card"}


def config(out: Path, **changes: object) -> FinetuneConfig:
    return replace(FinetuneConfig(SourceConfig("data.csv"), out), **changes)


def result(out: Path) -> FinetuneResult:
    return FinetuneResult(
        out, ("neg", "pos"), 9, 3, 0, (0.5, 0.75), 3, 3, 0.75, None, 1.5, 12, "float32", "cpu", ("a note",)
    )


def write(folder: Path) -> None:
    folder.mkdir()
    for name, content in MODEL.items():
        (folder / name).write_text(content)


def contents(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in folder.iterdir() if p.is_file()}


class Killed(BaseException):
    """Like a kill, this exception is caught by no code."""


def kill_at(monkeypatch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Raise Killed before the operation of that number among those that change the folder."""
    done: list[str] = []

    def counting(owner, name):
        real = getattr(owner, name)

        def operation(*arguments, **options):
            if len(done) == number:
                raise Killed
            done.append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, operation)

    for name in ("replace", "rename", "mkdir", "write_text", "unlink"):
        counting(Path, name)
    counting(shutil, "rmtree")
    return done


def test_a_run_killed_before_any_of_its_last_operations_resumes_or_is_complete(tmp_path, monkeypatch):
    """From each point the result is the same: only the model's files, and the same report."""
    for number in range(100):
        out = tmp_path / str(number)
        assert begin(config(out), ("neg", "pos"), SPLITS) is None
        (out / CHECKPOINTS / "checkpoint-3").mkdir()
        (out / CHECKPOINTS / "checkpoint-3/trainer_state.json").write_text("{}")
        with monkeypatch.context() as patch:
            done = kill_at(patch, number)
            try:
                finish(config(out), result(out), write)
            except Killed:
                survived = False
            else:
                survived = True
        if not survived and (told := finished(config(out))) is None:
            going_on = begin(config(out), ("neg", "pos"), SPLITS)
            assert going_on == out / CHECKPOINTS / "checkpoint-3"
            finish(config(out), result(out), write)
        elif not survived:
            assert told == result(out)
        assert contents(out) == MODEL
        assert {p.name for p in out.iterdir()} == MODEL.keys()
        if survived:
            assert len(done) > len(MODEL)
            return
    raise AssertionError("it never ended")


def test_a_run_killed_at_its_very_beginning_can_start_again(tmp_path, monkeypatch):
    """A folder without a complete run.json has nothing to resume: the same command starts again."""
    for number in range(3):
        out = tmp_path / str(number)
        with monkeypatch.context() as patch:
            kill_at(patch, number)
            with pytest.raises(Killed):
                begin(config(out), ("neg", "pos"), SPLITS)
        check(config(out))
        begin(config(out), ("neg", "pos"), SPLITS)
        assert (out / CHECKPOINTS / "run.json").is_file()


def test_a_torn_checkpoint_is_skipped_for_an_older_complete_one(tmp_path):
    """If trainer_state.json is truncated, empty, or not an object, the checkpoint before it is used."""
    begin(config(tmp_path / "out"), ("neg", "pos"), SPLITS)
    folder = tmp_path / "out" / CHECKPOINTS
    torn = ('{"global_step": 5, "log_', "", "[]", "[" * 100_000, '{"odd": 1}')
    for step, state in ((3, '{"global_step": 3}'), *zip(range(5, 15, 2), torn, strict=True)):
        (folder / f"checkpoint-{step}").mkdir()
        (folder / f"checkpoint-{step}/trainer_state.json").write_text(state)
    again = begin(config(tmp_path / "out"), ("neg", "pos"), SPLITS)
    assert again == folder / "checkpoint-3"


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"run"', "\0", "[" * 100_000, '{"a":' * 100_000])
def test_a_damaged_record_is_one_line(content, tmp_path):
    """Never a traceback, and never resumed as another run."""
    begin(config(tmp_path / "out"), ("neg", "pos"), SPLITS)
    (tmp_path / "out" / CHECKPOINTS / "run.json").write_text(content)
    with pytest.raises(UsageError, match=r"run.json is damaged: start again in a new folder"):
        begin(config(tmp_path / "out"), ("neg", "pos"), SPLITS)


@pytest.mark.parametrize("record", [None, "", "[1]", '{"asked": 1}', "[" * 100_000, "of another run", "odd"])
def test_remains_of_a_finished_run_are_removed(record, tmp_path):
    """The end of another run is not reported as this one's, nor that of a damaged record."""
    (tmp_path / FINISHED / "checkpoint-3").mkdir(parents=True)
    if record == "of another run":
        asked = {**json.loads(json.dumps(asdict(config(tmp_path)), default=str)), "seed": 7}
        record = json.dumps({"asked": asked, "result": asdict(result(tmp_path)) | {"out": None}})
    if record == "odd":
        asked = json.loads(json.dumps(asdict(config(tmp_path)), default=str))
        del asked["out"]
        record = json.dumps(
            {"asked": asked, "result": asdict(result(tmp_path)) | {"out": None, "steps": "many"}}
        )
    if record is not None:
        (tmp_path / LAST).write_text(record)
    assert finished(config(tmp_path)) is None
    assert [path.name for path in tmp_path.iterdir() if path.name != LAST] == []


def test_no_secret_of_an_address_is_written(tmp_path):
    """A password or signature in the data's address is not kept in the folder, and the run resumes with another one."""
    signed = "https://user:word@host/reviews.csv?sig=abc"
    begin(config(tmp_path / "out", source=SourceConfig(signed)), ("neg", "pos"), SPLITS)
    record = (tmp_path / "out" / CHECKPOINTS / "run.json").read_text()
    assert "word" not in record
    assert "abc" not in record
    other = SourceConfig(signed.replace("abc", "xyz"))
    assert begin(config(tmp_path / "out", source=other), ("neg", "pos"), SPLITS) is None


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("No space left on device\n  at inline_container.cc"),  # torch
        Exception("No space left on device"),  # tokenizers
    ],
)
def test_a_failed_write_is_one_line_and_the_same_command_resumes(error, tmp_path):
    """Whatever error the writing library raises, and wherever: the resulting model is complete."""

    def failing(folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{")
        raise error

    begin(config(tmp_path / "out"), ("neg", "pos"), SPLITS)
    with pytest.raises(AttnstoreError) as refused:
        finish(config(tmp_path / "out"), result(tmp_path), failing)
    assert str(refused.value) == (
        f"can't write or read what is kept in {tmp_path / 'out'}: No space left on device: fix that, and the same"
        " command resumes"
    )
    check(config(tmp_path / "out"))
    begin(config(tmp_path / "out"), ("neg", "pos"), SPLITS)
    finish(config(tmp_path / "out"), result(tmp_path), write)
    assert contents(tmp_path / "out") == MODEL


def test_another_run_is_refused_with_both_values(tmp_path):
    begin(config(tmp_path / "out"), ("neg", "pos"), SPLITS)
    with pytest.raises(UsageError) as refused:
        begin(config(tmp_path / "out", seed=3), ("neg", "pos"), SPLITS)
    assert str(refused.value) == (
        f"{tmp_path / 'out'} holds a run that was begun with seed 0, not 3: name a new folder, or delete it first"
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_in_place_of_a_record_or_a_checkpoint_is_not_waited_for(tmp_path):
    folder = tmp_path / "out" / CHECKPOINTS
    begin(config(tmp_path / "out"), ("neg", "pos"), SPLITS)
    (folder / "checkpoint-3").mkdir()
    os.mkfifo(folder / "checkpoint-3/trainer_state.json")
    assert begin(config(tmp_path / "out"), ("neg", "pos"), SPLITS) is None
    (folder / "run.json").unlink()
    os.mkfifo(folder / "run.json")
    with pytest.raises(UsageError, match=r"run.json is damaged: start again in a new folder"):
        begin(config(tmp_path / "out"), ("neg", "pos"), SPLITS)
