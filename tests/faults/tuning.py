"""Fine-tunings on a disk that fails once, for any library that writes: `disk.c` is between a process and its files."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tiny
from faults import assert_same
from small_store import contents

#: The ways in which an operation can fail, as `disk.c` expects them.
WAYS = {name: getattr(errno, name) for name in ("ENOSPC", "EIO", "EACCES", "EINTR")} | {
    "short": 0,
    "kill": -1,
}

#: Forks a child for each line that it reads: the model's folder, the operation that fails and how, and where the
#: child writes the outcome. Prints the exit status of the child.
_NURSERY = """
import ctypes, os, signal, sys
from pathlib import Path
from attnstore.config import SourceConfig
from attnstore.errors import AttnstoreError
from attnstore.learn.config import FinetuneConfig
from attnstore.learn.finetune import finetune
disk = ctypes.CDLL(sys.argv[1])
encoder, data = sys.argv[2:]
for line in sys.stdin:
    out, at, way, told = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if not child:
        signal.alarm(180)
        disk.disk_arm(out.encode(), ctypes.c_long(int(at)), int(way))
        try:
            finetune(FinetuneConfig(SourceConfig(data), Path(out), encoder, device="cpu", dtype="float32", epochs=1.0,
                                    batch_size=4, max_length=12, dev_fraction=0.25))
            said = "finished"
        except AttnstoreError as error:
            said = f"refused: {error}"
        except BaseException as error:
            import traceback
            said = "traceback: " + traceback.format_exc()
        Path(told).write_text(f"{disk.disk_done()}\\n{said}")
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def built(folder: Path) -> Path | None:
    """The library of `disk.c`; None if it can't be compiled or loaded on this system."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        return None
    library = folder / "disk.so"
    source = Path(__file__).with_name("disk.c")
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


@dataclass
class Tunings:
    """Fine-tunings of a tiny encoder on a dozen documents, each in a separate process below `folder`."""

    folder: Path
    process: subprocess.Popen[str]
    number: int = 0

    def _outcome(self, out: Path, at: int, way: int) -> tuple[int, str]:
        """The number of operations, and the outcome: `finished`, `killed`, or `refused: ` and the line."""
        told = self.folder / "told"
        told.unlink(missing_ok=True)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{out}\t{at}\t{way}\t{told}\n")
        self.process.stdin.flush()
        ended = int(self.process.stdout.readline())
        if ended == -signal.SIGKILL:
            return 0, "killed"
        assert ended == 0, f"the process ended with {ended}"
        done, said = told.read_text().split("\n", 1)
        assert not said.startswith("traceback"), said
        assert "\n" not in said, said
        return int(done), said

    @cached_property
    def undisturbed(self) -> tuple[int, dict[str, bytes]]:
        """The number of operations, and the files they leave."""
        out = self.folder / "undisturbed/model"
        done, said = self._outcome(out, -1, 0)
        assert said == "finished"
        return done, contents(out)

    def trials(self) -> list[tuple[int, str]]:
        """Every operation with every way in which it can fail."""
        return [(at, way) for at in range(self.undisturbed[0]) for way in WAYS]

    def trial(self, at: int, way: str) -> str:
        """One fine-tuning with one failure, and the same command again. Returns the outcome of the first.

        Raises AssertionError if the model is not complete then, or if the first attempt printed more than one line.
        """
        expected = self.undisturbed[1]
        self.number += 1
        out = self.folder / str(self.number) / "model"  # with that name, which is in the card
        _, said = self._outcome(out, at, WAYS[way])
        assert (said == "killed") == (way == "kill")
        if said != "finished":
            _, again = self._outcome(out, -1, 0)
            # Only if nothing was left to do, the run has nothing to resume.
            assert again == "finished" or "is not empty: name a new folder" in again, again
        assert_same(contents(out), expected)
        shutil.rmtree(out.parent)
        return {"finished": "finished in spite of it", "killed": "killed"}.get(said, "one line")


@contextmanager
def tunings(folder: Path, library: Path) -> Iterator[Tunings]:
    """`Tunings` below `folder`, whose process ends with the block."""
    encoder, data = tiny.save(folder / "encoder", "bert"), folder / "reviews.csv"
    rows = [
        f"{'pos' if n % 2 else 'neg'},{'a good film' if n % 2 else 'a bad plot'} {'it ' * n}"
        for n in range(12)
    ]
    data.write_text("\n".join(["label,text", *rows]) + "\n")
    paths = os.pathsep.join(filter(None, sys.path))
    environment = os.environ | {"PYTHONPATH": paths, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", _NURSERY, str(library), str(encoder), str(data)],
        env=environment | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield Tunings(folder, process)
        finally:
            process.kill()
