"""The device, the dtype, and the number of CPU threads for computing."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

import torch

from attnstore.config import Dtype
from attnstore.errors import UsageError
from attnstore.messages import counted

#: Besides these, a GPU by torch's number: cuda:0, cuda:1, …
DEVICES = ("auto", "cpu", "cuda", "mps")
_ONE_GPU = re.compile(r"cuda:(0|[1-9][0-9]*)")


def choose_device(asked: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`. Raises UsageError for others, and if it does not exist.

    `auto` is never `mps`, an Apple GPU, which only the reference computes on.
    """
    one = _ONE_GPU.fullmatch(asked) if isinstance(asked, str) else None
    if asked not in DEVICES and not one:
        raise UsageError(
            f"--device {asked}: it is one of {', '.join(DEVICES)}, or cuda:N for one of several GPUs"
        )
    if asked == "mps" and not torch.backends.mps.is_available():
        raise UsageError(
            "--device mps: torch sees no Apple GPU here; leave the option out, or use --device cpu"
        )
    if asked not in ("auto", "cpu", "mps") and not torch.cuda.is_available():
        raise UsageError(
            f"--device {asked}: torch sees no CUDA device here; leave the option out, or use --device cpu"
        )
    if one and int(one[1]) >= (count := torch.cuda.device_count()):
        raise UsageError(
            f"--device {asked}: torch sees {counted(count, 'GPU')} here, the last of them cuda:{count - 1}"
        )
    if asked != "auto":
        return torch.device(asked)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices faster than float32 ones.

    Without AMX or AVX512-BF16 a CPU emulates them, about 60 times slower. Apple's processors were not measured.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "mps":
        return False
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def choose_dtype(asked: str, device: torch.device) -> tuple[torch.dtype, list[str]]:
    """The dtype for `auto`, `float32`, `bfloat16` or `float16`, and what the user should know about it."""
    if asked not in get_args(Dtype):
        raise UsageError(f"--dtype {asked}: it is one of {', '.join(get_args(Dtype))}")
    fast = fast_bfloat16(device)
    if asked == "auto":
        # Never float16: large activations overflow in it, and the result is not a prediction.
        return (torch.bfloat16 if fast else torch.float32), []
    notes = []
    if asked == "bfloat16" and device.type == "cpu" and not fast:
        notes.append("bfloat16 is emulated on this hardware and very slow: --dtype float32 is faster")
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[asked], notes


def usable_threads() -> int:
    """The number of CPU threads that torch uses by default."""
    return torch.get_num_threads()


def threads_each(processes: int, begun: int | None) -> int:
    """The default number of CPU threads for each of several processes.

    `begun`: the number that computed the existing parts. It is used again if the machine has that many, because the
    last bits of a value may depend on it.
    """
    usable = usable_threads()
    if begun is not None and begun * processes <= usable:
        return begun
    return max(1, usable // processes)


def other_threads(begun: int, threads: int) -> str:
    """A note for a store that continues with another number of threads than it began with."""
    return (
        f"the store was begun on {counted(begun, 'thread')} per process and continues with {threads}: the last bits of"
        f" its values may differ from those of a single run (--threads {begun} keeps them)"
    )


@contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """Within this context, compute on this many CPU threads in the current Python thread."""
    before = torch.get_num_threads()
    if threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def hardware(device: torch.device) -> str:
    """The kind of a device, because different GPUs give different last bits. Empty for a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""


def visible_gpus() -> list[str]:
    """The GPUs that torch sees, each with its name for CUDA_VISIBLE_DEVICES."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return [str(number) for number in range(count)] if named is None else named.split(",")[:count]
