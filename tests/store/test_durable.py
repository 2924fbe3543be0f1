"""Promises of attnstore.store.durable: files are complete or absent, and nothing is written through a link."""

import errno
import os
from pathlib import Path

import pytest

from attnstore.errors import StoreError
from attnstore.store.durable import write_file


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_litter(
    tmp_path: Path, monkeypatch, number: int, step: str
) -> None:
    """Whichever step the system refuses, the old content remains, the temporary file is removed, and the error is one
    line.
    """
    target, temporary = tmp_path / "a" / "file", tmp_path / "b" / "file.tmp"
    write_file(target, b"old", temporary)

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os if step == "fsync" else Path, step, refuse)
    with pytest.raises(StoreError) as refused:
        write_file(target, b"new and longer", temporary)
    message = str(refused.value)
    assert message.startswith(
        f"can't write {target}: {os.strerror(number)}; the parts finished so far are kept: "
    )
    assert message.endswith(" and run again to resume")
    assert target.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "file"]


def test_an_interrupt_leaves_no_litter(tmp_path: Path, monkeypatch) -> None:
    """Ctrl-C during a write is raised, and the half-written file is removed."""

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "file", b"x", tmp_path / "file.tmp")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file.tmp"])
def test_a_link_is_replaced_and_never_written_through(tmp_path: Path, place: str) -> None:
    """A link with the file's name or the temporary file's name, dangling or not, is never followed."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for number, target in enumerate((precious, tmp_path / "nowhere")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / place).symlink_to(target)
        write_file(folder / "file", b"new", folder / "file.tmp")
        assert [(path.name, path.is_symlink(), path.read_bytes()) for path in folder.iterdir()] == [
            ("file", False, b"new")
        ]
    assert precious.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_a_link_created_at_the_last_moment_is_not_followed(tmp_path: Path, monkeypatch) -> None:
    """Somebody may create a link between the check and the opening, so a file is opened only if it is new."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    remove = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        remove(path, missing_ok=missing_ok)
        if path.suffix == ".tmp" and not path.is_symlink():
            monkeypatch.setattr(Path, "unlink", remove)
            path.symlink_to(precious)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(StoreError, match="File exists"):
        write_file(tmp_path / "file", b"new", tmp_path / "file.tmp")
    assert precious.read_text() == "mine"
    assert not (tmp_path / "file").exists()
