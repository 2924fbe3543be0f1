"""Power cuts: the writes of a run are recorded and replayed up to a moment, with unsynced ones dropped, torn or
reordered.

The disk model is the pessimistic side of Pillai et al. 2014 ("All File Systems Are Not Created Equal", ALICE): synced
data is there. Of unsynced changes, any subset may be there, in any order that keeps each name's history consistent. A
file's bytes are there as far as they were synced; after that follow a part of them, zeros, or nothing.
"""

import contextlib
import io
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from faults import WORKS, assert_same
from small_store import contents

_META = ("create", "rename", "link", "unlink", "mkdir", "rmdir")


@dataclass(frozen=True)
class Step:
    """`paths` are relative to the folder; a rename or a link has two. `data`: the bytes written."""

    name: str
    paths: tuple[str, ...]
    data: bytes = b""

    @property
    def folders(self) -> set[str]:
        return {path.rpartition("/")[0] for path in self.paths}


class _Recorded(io.FileIO):
    """A file whose writes are recorded."""

    log: list[Step]
    path: str

    def write(self, data) -> int:  # type: ignore[override]
        content = bytes(data)
        self.log.append(Step("write", (self.path,), content))
        return super().write(content)


@contextlib.contextmanager
def recording(root: Path) -> Iterator[list[Step]]:
    """Every operation on files below `root`, in order."""
    log: list[Step] = []
    names = ("open", "fdopen", "fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir")
    real = {name: getattr(os, name) for name in names}

    def inside(path: object, dir_fd: int | None = None) -> str | None:
        if not isinstance(path, str | os.PathLike):
            return None
        whole = path if dir_fd is None else place_of(dir_fd) / path
        return os.path.relpath(whole, root) if str(whole).startswith(f"{root}/") else None

    def place_of(descriptor: int) -> Path:
        return Path(f"/proc/self/fd/{descriptor}").readlink()

    def opened(path, flags, *more, **options):
        found = inside(path, options.get("dir_fd"))
        is_new = found is not None and flags & os.O_CREAT and not os.path.lexists(path)
        descriptor = real["open"](path, flags, *more, **options)
        if is_new:
            log.append(Step("create", (found,)))
        return descriptor

    def fdopen(descriptor, mode="r", *arguments, **options):
        place = inside(place_of(descriptor))
        if place is None or mode != "wb":
            return real["fdopen"](descriptor, mode, *arguments, **options)
        file = _Recorded(descriptor, "wb")
        file.log, file.path = log, place
        return io.BufferedWriter(file)

    def fsync(descriptor):
        real["fsync"](descriptor)
        at = place_of(descriptor)
        if at == root or inside(at) is not None:
            log.append(Step("syncdir" if at.is_dir() else "sync", (inside(at) or "",)))

    def moved(name):
        def call(source, target, **options):
            real[name](source, target, **options)
            if (a := inside(source)) is not None and (b := inside(target)) is not None:
                log.append(Step("link" if name == "link" else "rename", (a, b)))

        return call

    def one(name):
        def call(path, *more, dir_fd=None, **options):
            place = inside(path, dir_fd)
            real[name](path, *more, dir_fd=dir_fd, **options)
            if place is not None:
                log.append(Step(name, (place,)))

        return call

    changed = {"open": opened, "fdopen": fdopen, "fsync": fsync}
    changed |= {name: moved(name) for name in ("replace", "rename", "link")}
    changed |= {name: one(name) for name in ("unlink", "mkdir", "rmdir")}
    try:
        for name, function in changed.items():
            setattr(os, name, function)
        yield log
    finally:
        for name, function in real.items():
            setattr(os, name, function)


@dataclass(frozen=True)
class Recorded:
    """What a piece of work did: the files and folders before it, and its steps."""

    work: str
    files: dict[str, bytes]
    folders: tuple[str, ...]
    steps: tuple[Step, ...]


def recorded(work: str, folder: Path) -> Recorded:
    folder.mkdir()
    path = WORKS[work].begin(folder)
    before = contents(folder)
    folders = tuple(str(p.relative_to(folder)) for p in sorted(folder.rglob("*")) if p.is_dir())
    with recording(folder) as log:
        WORKS[work].do(path)
    return Recorded(work, before, folders, tuple(log))


def _needed(wanted: set[int], steps: list[tuple[int, Step]]) -> set[int]:
    """The steps `wanted` with the earlier steps of the same names and of the folders that contain them."""
    found: set[int] = set()
    names: set[str] = set()
    for number, step in reversed(steps):
        if number in wanted or names & set(step.paths):
            found.add(number)
            names |= {*step.paths, *step.folders}
    return found


def after_a_cut(work: Recorded, at: int, chance: random.Random, folder: Path) -> None:
    """Make `folder` a possible state of a disk whose power failed before step `at`."""
    synced: set[int] = set()
    pending: list[tuple[int, Step]] = []
    for number, step in enumerate(work.steps[:at]):
        if step.name in _META:
            pending.append((number, step))
        elif step.name == "syncdir":
            there = {n for n, each in pending if step.paths[0] in each.folders}
            synced |= _needed(there, pending)
            pending = [each for each in pending if each[0] not in synced]
    kept = synced | _needed({n for n, _ in pending if chance.random() < 0.5}, pending)
    # Files are identified by numbers, because names come and go.
    files: dict[int, bytearray] = {-n: bytearray(c) for n, c in enumerate(work.files.values(), start=1)}
    durable = {number: len(content) for number, content in files.items()}
    live = {name: -n for n, name in enumerate(work.files, start=1)}  # the names as the program sees them
    disk = dict(live)
    folders = set(work.folders)
    for number, step in enumerate(work.steps[:at]):
        for names, is_there in ((live, True), (disk, number in kept)):
            if not is_there:
                continue
            if step.name == "create":
                names[step.paths[0]] = number
                files.setdefault(number, bytearray())
                durable.setdefault(number, 0)
            elif step.name == "rename":
                names[step.paths[1]] = names.pop(step.paths[0])
            elif step.name == "link":
                names[step.paths[1]] = names[step.paths[0]]
            elif step.name == "unlink":
                names.pop(step.paths[0], None)
        if number in kept and step.name == "mkdir":
            folders.add(step.paths[0])
        elif number in kept and step.name == "rmdir":
            folders.discard(step.paths[0])
        if step.name == "write":
            files[live[step.paths[0]]] += step.data
        elif step.name == "sync" and step.paths[0] in live:
            durable[live[step.paths[0]]] = len(files[live[step.paths[0]]])
    for name in sorted(folders):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, number in disk.items():
        content, sure = bytes(files[number]), durable[number]
        rest = content[sure:]
        rest = chance.choice([b"", rest, rest[: chance.randint(0, len(rest))], bytes(len(rest))])
        if (folder / name).parent.is_dir():  # a name in a removed folder is removed, too
            (folder / name).write_bytes(content[:sure] + rest)


def trial(work: Recorded, at: int, chance: random.Random, folder: Path, expected: dict[str, bytes]) -> str:
    """A cut before step `at`, and the same work again: the same bytes, and no earlier part is found damaged."""
    folder.mkdir()
    after_a_cut(work, at, chance, folder)
    store = WORKS[work.work].do(folder / "store")
    assert not store.damaged, store.damaged
    assert_same(contents(folder / "store"), expected)
    shutil.rmtree(folder)
    return "went on"
