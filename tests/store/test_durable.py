"""Promises of attnstore.store.durable: whole files or none, and nothing written through a link."""

import errno
import os
from pathlib import Path

import pytest

from attnstore.errors import StoreError
from attnstore.store.durable import write_file


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_refused_file_leaves_the_old_one_and_no_litter(
    tmp_path: Path, monkeypatch, number: int, step: str
) -> None:
    """Whichever step the system refuses, the old content stands, the temporary file is gone, one line says so."""
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


def test_interrupt_leaves_no_litter(tmp_path: Path, monkeypatch) -> None:
    """Ctrl-C while a file is written passes through, and takes the half-written file with it."""

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "file", b"x", tmp_path / "file.tmp")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file.tmp"])
def test_link_is_replaced_and_never_written_through(tmp_path: Path, place: str) -> None:
    """A link at the file's name or at the temporary one, dangling or not, leads nowhere."""
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


def test_link_put_in_place_at_the_last_moment_is_not_followed(tmp_path: Path, monkeypatch) -> None:
    """Between looking and opening somebody may put a link there: the file is opened only if it is new."""
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
