"""The machine that the benchmarks run on: its description, its fastest matrix product, and its memory counters."""

import os
import platform
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

import psutil  # type: ignore[import-untyped]
import torch

import attnstore

P = ParamSpec("P")
T = TypeVar("T")
MEBIBYTE = 1 << 20


def description() -> list[str]:
    """Processor, instruction sets, memory, load and versions: one line each, for the head of a result."""
    packages = ("torch", "transformers", "tokenizers", "pyarrow", "numpy")
    name, flags = _processor()
    known = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16")
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return [
        f"CPU: {name}, {psutil.cpu_count()} cores, torch on {torch.get_num_threads()} threads",
        f"instruction sets: {' '.join(flag for flag in known if flag in flags) or 'unknown'}",
        f"memory: {psutil.virtual_memory().total / 2**30:.1f} GiB",
        f"load average at the start: {load}",
        f"system: {platform.system()} {platform.release()}, Python {platform.python_version()}",
        f"versions: attnstore {attnstore.__version__}{_commit()}, "
        + ", ".join(f"{package} {version(package)}" for package in packages),
    ]


def _processor() -> tuple[str, frozenset[str]]:
    """The processor's name and instruction sets as Linux lists them; on other systems as Python knows them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    pairs: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        pairs.setdefault(name.strip(), value.strip())  # of the first processor; the others are equal
    speed = f" at {float(pairs['cpu MHz']) / 1000:.1f} GHz" if "cpu MHz" in pairs else ""
    return pairs.get("model name", platform.machine()) + speed, frozenset(pairs.get("flags", "").split())


def _commit() -> str:
    """The checked-out commit, followed by "+" if files are changed; empty outside a repository."""
    folder = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" ({done.stdout.strip()})"


def matmul_peak(dtype: torch.dtype, size: int = 4096, times: int = 3, device: str = "cpu") -> float:
    """Operations per second of torch.mm of two (size, size) matrices, on threads or a GPU: the best of `times`."""
    a, b = (torch.randn(size, size).to(device, dtype) for _ in range(2))
    out = torch.empty(size, size, dtype=dtype, device=device)
    torch.mm(a, b, out=out)
    best = float("inf")
    for _ in range(times):
        wait_for(device)
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        wait_for(device)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def wait_for(device: str) -> None:
    """Wait until the device has finished its work."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def rss() -> float:
    """Resident memory of this process, in MiB."""
    return float(psutil.Process().memory_info().rss / MEBIBYTE)


def peak_rss() -> float:
    """The peak resident memory of this process, or since `forget_peak`, in MiB.

    Linux' own figure, because getrusage's includes the memory of the process that started this one.
    """
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no VmHWM: memory is measured on Linux only")


def forget_peak() -> float:
    """Restart `peak_rss`, and return the resident memory: loading a model may take more than using it."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return rss()


def in_own_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result from a new Python process, which has only what it needs in memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *args, **kwargs).result()
