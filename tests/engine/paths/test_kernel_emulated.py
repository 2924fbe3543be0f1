"""The kernel on processors that this machine can only emulate: ARM with NEON."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from random_batch import RandomBatch

from attnstore.engine.paths import compiler, kernel
from attnstore.engine.paths.kernel import Workspace

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64-static"
MISSING = [name for name in (COMPILER, EMULATOR) if not shutil.which(name)]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"no {' and no '.join(MISSING)} (Debian: qemu-user-static)"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The kernel for ARM64 as a separate program, compiled as attnstore compiles it on ARM64."""
    path = tmp_path_factory.mktemp("arm") / "kernel"
    options = [o for o in compiler._COMPILE if o not in ("-c", "-fPIC", "-march=native")]
    source = Path(__file__).with_name("emulated.cpp")
    include = f"-I{compiler.SOURCE.parent}"
    subprocess.run([COMPILER, *options, "-static", include, "-o", path, source], check=True)
    return path


class Emulated:
    """Replaces the library: each call is a separate emulated process."""

    def __init__(self, program, sizes):
        self.program, self.sizes = program, sizes

    def _run(self, call, *arguments):
        """The program's output, and the pointers whose memory is written back, with their sizes."""
        blocks, back = [bytes(call)], []
        for name in kernel._POINTERS.split():
            at = getattr(call, name)
            size = self.sizes(call, name) if at else -1
            blocks.append(size.to_bytes(8, "little", signed=True))
            if at:
                blocks.append(ctypes.string_at(at, size))
                back.append((at, size))
        done = subprocess.run(
            [EMULATOR, self.program, *arguments], input=b"".join(blocks), capture_output=True, check=True
        )
        return done.stdout, back

    def attnstore_mean_bytes(self, call, everything):
        said, _ = self._run(call._obj, "mean")
        everything._obj.value = int.from_bytes(said[8:], "little")
        return int.from_bytes(said[:8], "little")

    def attnstore_attend(self, call):
        written, back = self._run(call._obj)
        assert len(written) == sum(size for _, size in back)
        for at, size in back:
            ctypes.memmove(at, written[:size], size)
            written = written[size:]
        return 0


@pytest.mark.sampled(at=(0, 3))
@pytest.mark.parametrize(
    "shape",
    [
        {"lengths": [1, 31, 32, 33, 150], "heads": 3, "depth": 32},
        {"lengths": [5, 300, 64], "heads": 2, "depth": 16, "window": 37},
        {"lengths": [40, 7, 65], "heads": 4, "key_heads": 2, "depth": 5, "value_depth": 24, "packed": False},
        {"lengths": [70], "heads": 1, "depth": 64, "weightings": 0, "spread": 30.0},
    ],
)
def test_neon_agrees_with_float64(program, shape, monkeypatch):
    """Float32, all four results: ragged documents, a window, shared key heads, padding, and scores far apart."""
    shape = dict(shape)
    case = RandomBatch(torch.float32, shape.pop("lengths"), **shape)
    workspace = Workspace()

    def sizes(call, name):
        if name == "mean":
            return workspace._buffers[0].numel()
        if name == "out":
            return case.batch * case.rows * case.heads * call.value_depth * 4
        if name in ("length", "batch", "row", "token"):
            return call.documents * 8
        if name in ("query", "key", "value"):
            return {"query": case.q, "key": case.k, "value": case.v}[name].numel() * 4
        return call.tokens * 4 * (call.heads if name == "head_rows" else call.weightings)

    monkeypatch.setattr(kernel, "_loaded", lambda: kernel._Loaded(Emulated(program, sizes), -1, ""))
    output, layer = kernel.attend(
        case.q, case.k, case.v, case.scale, case.places, case.weights,
        window=case.window, head_rows=True, keep=workspace, products=0,
    )  # fmt: skip
    found = layer.apply_transposed_mean(case.sweep)
    case.assert_as_expected(output, layer.weighted, layer.head_rows, found)
