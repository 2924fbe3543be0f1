"""What an interrupted run leaves, so that the same command continues it."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path

from transformers import TrainerState

from attnstore.data.remote import without_secrets
from attnstore.errors import AttnstoreError, UsageError
from attnstore.learn.config import (
    CHECKPOINTS,
    RECORD,
    FinetuneConfig,
    FinetuneInterrupted,
    FinetuneResult,
)
from attnstore.learn.examples import Split
from attnstore.messages import first_line

#: The checkpoints' name when the model is complete: after that, they only have to be removed.
FINISHED = ".finished"
#: The run's result, among the checkpoints; and its place while these are removed. It is removed last.
RESULT, LAST = "result.json", ".finished.json"


def begin(config: FinetuneConfig, labels: tuple[str, ...], splits: dict[str, Split]) -> Path | None:
    """Make the folder, or find the checkpoint to resume from; None if there is none yet.

    Raises UsageError if the folder holds another run.
    """
    digest = hashlib.sha256()
    for name, split in splits.items():
        digest.update(f"{name} {len(split.ids)} {split.labels}".encode())
        for ids in split.ids:
            digest.update(ids.tobytes())
    run: dict[str, object] = {**_asked(config), "labels": list(labels), "tokens": digest.hexdigest()}
    folder = config.out / CHECKPOINTS
    if (folder / RECORD).exists():
        begun = _begun(folder / RECORD)
        for name, value in run.items():
            if begun.get(name) != value:
                was, now = (f"{json.dumps(v)[:60]}" for v in (begun.get(name), value))
                raise UsageError(
                    f"{config.out} holds a run that was begun with {name} {was}, not {now}: name a new folder, or"
                    " delete it first"
                )
        complete = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json") if _is_whole(path)]
        return max(complete, key=lambda path: int(path.name.split("-")[1]), default=None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{RECORD}.tmp"
        part.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
        part.replace(folder / RECORD)
    except OSError as error:
        raise UsageError(f"can't write to {config.out}: {error.strerror or error}") from error
    return None


def _asked(config: FinetuneConfig) -> dict[str, object]:
    """A run's configuration as JSON, without the model's destination."""
    # An address may contain a password, or a signature that differs each time.
    source = replace(config.source, data=without_secrets(str(config.source.data)))
    asked = {k: v for k, v in asdict(replace(config, source=source)).items() if k != "out"}
    found: dict[str, object] = json.loads(json.dumps(asked, default=str))
    return found


@contextmanager
def keeping(out: Path) -> Iterator[None]:
    """Turn any error in writing or reading a checkpoint or the model into one line.

    Each library raises its own errors. What was complete before still exists.

    Raises AttnstoreError.
    """
    try:
        yield
    except AttnstoreError:
        raise
    except Exception as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise AttnstoreError(
            f"can't write or read what is kept in {out}: {why}: fix that, and the same command resumes"
        ) from error


def _begun(record: Path) -> dict[str, object]:
    """The configuration that a run began with. Raises UsageError if it can't be read any more."""
    begun = _object(record)
    if begun is None:
        raise UsageError(f"{record} is damaged: start again in a new folder")
    return begun


def _object(file: Path) -> dict[str, object] | None:
    """The JSON object in a file; None if the file does not exist, or has anything else."""
    try:
        # Reading anything but a file, such as a pipe, would wait.
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is_whole(state: Path) -> bool:
    """Whether a checkpoint's last file was written to its end; one without it was cut short by a crash."""
    # Read like transformers: an unknown name would be a traceback.
    known = {field.name for field in fields(TrainerState)}
    found = _object(state)
    return found is not None and found.keys() <= known


def finish(config: FinetuneConfig, result: FinetuneResult, write: Callable[[Path], None]) -> None:
    """Put the model that `write` saves into a folder at `config.out`, and remove the checkpoints.

    Until the model is complete, a killed run resumes from its last checkpoint; after that the checkpoints are not
    needed. `config` is the run's configuration, `result` its result, for a repeated call after a kill.
    """
    out = config.out
    folder = out / CHECKPOINTS
    made = folder / "model"
    told = {"asked": _asked(config), "result": {**asdict(result), "out": None}}
    with keeping(out):
        shutil.rmtree(made, ignore_errors=True)
        write(made)
        (folder / RESULT).write_text(json.dumps(told), encoding="utf-8")
        for file in sorted(made.iterdir()):
            file.replace(out / file.name)
        folder.rename(out / FINISHED)
        _clear_up(out)


def finished(config: FinetuneConfig) -> FinetuneResult | None:
    """The result of an equal run that was killed while it removed its checkpoints, after removing them; None without
    one.

    The model is complete in this case.
    """
    out = config.out
    told = _object(out / FINISHED / RESULT) or _object(out / LAST) or {}
    if (out / FINISHED).is_dir() or told.keys() == {"asked", "result"}:
        with keeping(out):
            _clear_up(out)
    if told.get("asked") != _asked(config):
        return None
    return _result(out, told.get("result"))


def _result(out: Path, told: object) -> FinetuneResult | None:
    """A result that `finish` wrote; None for anything else."""
    if not isinstance(told, dict) or told.keys() != {field.name for field in fields(FinetuneResult)}:
        return None
    lists = {name: tuple(value) for name, value in told.items() if isinstance(value, list)}
    made = FinetuneResult(**{**told, **lists, "out": out})
    counts = (made.train_documents, made.dev_documents, made.test_documents, made.steps, made.chosen_step)
    shares = (*made.dev_accuracies, made.dev_accuracy or 0.0, made.test_accuracy or 0.0, made.seconds)
    texts = (*made.labels, *made.notes, made.dtype, made.device)
    fits = all(isinstance(each, int) for each in (*counts, made.max_length))
    fits = fits and all(isinstance(each, int | float) for each in shares)
    return made if fits and all(isinstance(each, str) for each in texts) else None


def _clear_up(out: Path) -> None:
    """Remove what is left of a run whose model is complete."""
    if (out / FINISHED).is_dir():
        if (out / FINISHED / RESULT).exists():
            (out / FINISHED / RESULT).replace(out / LAST)
        shutil.rmtree(out / FINISHED)
    (out / LAST).unlink(missing_ok=True)


def interrupted(config: FinetuneConfig, when: str, number: int) -> FinetuneInterrupted:
    """The error to raise when the signal with that number has ended the run."""
    return FinetuneInterrupted(
        f"interrupted {when}; the progress is kept in {config.out / CHECKPOINTS}: the same command resumes",
        number,
    )
