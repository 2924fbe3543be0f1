"""Builds the CPU kernel's library from `kernel.cpp` and `lanes.h`, at first use, in the user's cache.

It uses the system's C++ compiler, for the processor of this machine. A run calls `start` while Python still loads
torch, so that it need not wait for the compiler later. This module itself imports no large library.
"""

import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from attnstore.cache import cache_folder
from attnstore.errors import UsageError
from attnstore.messages import listed, one_line

SOURCE = Path(__file__).with_name("kernel.cpp")
_INCLUDED = Path(__file__).with_name("lanes.h")
_COMPILE = (
    *("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-ffp-contract=fast"),
    *("-fPIC", "-fopenmp", "-w", "-c"),
)
#: Values of ATTNSTORE_KERNEL, from slow to fast: the processor features of which one is required, by Linux's names, and
#: the compiler options that exclude faster instructions. Without the variable, every available instruction is used.
TARGETS = {
    "neon": (("asimd",), ()),
    "avx2": (("avx2",), ("-mno-avx512f",)),
    "avx512": (("avx512bw",), ("-mno-avx512bf16", "-mno-amx-tile", "-mno-amx-bf16")),
    "amx": (("amx_bf16",), ()),
}
#: Instruction sets for which the kernel is worth compiling.
_ANY = ("avx512bw", "avx2", "asimd")
#: Without -fopenmp, so that no runtime is linked in: torch's own is there when the library is loaded.
_LINK = ("-shared",)


class NoKernelError(Exception):
    """The kernel is not available; the message is the reason."""


def asked_for() -> str:
    """The value of ATTNSTORE_KERNEL: "off", one of TARGETS, or "" for the fastest available.

    Raises:
        UsageError: it has another value.
    """
    asked = os.environ.get("ATTNSTORE_KERNEL", "").lower()
    if asked not in ("", "off", *TARGETS):
        raise UsageError(
            f"ATTNSTORE_KERNEL={one_line(asked)} is not known: use off, {listed([*TARGETS])}, or unset it"
        )
    return asked


def start(device: str | None) -> None:
    """Start compiling the library if it is not in the cache, and return at once. A run on a GPU does not need it.

    Whether `auto` finds a GPU is known only after torch is loaded, which is too late to start.
    """
    asked = asked_for()
    if not (device or "").startswith(("cuda", "mps")) and asked != "off":
        _begun(asked)


def library(asked: str) -> Path:
    """Wait for the compiled library for what is `asked_for`.

    Raises:
        NoKernelError, OSError, subprocess.SubprocessError: the library is not available; the message is the reason.
    """
    return _begun(asked).result()


@functools.cache
def _begun(asked: str) -> Future[Path]:
    """The future of the library for these instructions, which a thread builds once per process."""
    aside = ThreadPoolExecutor(1, thread_name_prefix="attnstore-compiler")
    try:
        return aside.submit(_built, asked)
    finally:
        aside.shutdown(wait=False)


def _built(asked: str) -> Path:
    """The compiled kernel for this source, processor, compiler and target, from the cache or newly built."""
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        raise NoKernelError("the kernel needs Linux on x86-64 or ARM64")
    processor = _processor()
    needed, without = TARGETS[asked] if asked else (_ANY, ())
    if not set(needed) & set(processor.split()):
        raise NoKernelError(
            f"the processor lacks what ATTNSTORE_KERNEL={asked} needs"
            if asked
            else "the processor has none of AVX-512, AVX2 and NEON"
        )
    options = [*_COMPILE, *without]
    compiler = shlex.split(os.environ.get("CXX", "")) or [_found("g++", "c++")]
    program = shutil.which(compiler[0])
    if program is None:
        raise NoKernelError("no C++ compiler")
    stat = Path(program).stat()
    built_from = (
        *(
            SOURCE.read_text(encoding="utf-8"),
            _INCLUDED.read_text(encoding="utf-8"),
            processor,
            *options,
            *_LINK,
        ),
        *(*compiler, str(Path(program).resolve()), str(stat.st_size), str(stat.st_mtime_ns)),
    )
    digest = hashlib.sha256("\0".join(built_from).encode()).hexdigest()[:20]
    folder = cache_folder()
    library = folder / f"kernel-{digest}.so"
    if not _is_whole(library):
        _build(compiler, options, library)
    # Do not run code that someone else can write.
    stat = library.stat()
    if stat.st_uid not in (os.getuid(), 0) or stat.st_mode & 0o022:
        raise NoKernelError(f"{library} can be written by others")
    return library


def _build(compiler: Sequence[str], options: Sequence[str], library: Path) -> None:
    """Compile under a unique name, then rename: several processes may do this at the same time."""
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kernel-", dir=library.parent) as name:
        target, built = Path(name) / "kernel.o", Path(name) / "kernel.so"
        for command in (
            [*compiler, *options, "-o", str(target), str(SOURCE)],
            [*compiler, *_LINK, "-o", str(built), str(target)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603 - the compiler the user has
            if done.returncode != 0:
                raise NoKernelError(f"{compiler[0]} can't compile the kernel: {_first_error(done.stderr)}")
        digest = hashlib.sha256(built.read_bytes()).digest()
        with built.open("ab") as file:
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())
        built.chmod(0o755)
        built.replace(library)


def _is_whole(library: Path) -> bool:
    """Whether the library is complete and unchanged. A missing page would end the process (SIGBUS) when it is executed.

    The file ends with the SHA-256 of the library, which loaders ignore.
    """
    try:
        content = library.read_bytes()
    except FileNotFoundError:
        return False
    size = hashlib.sha256().digest_size
    return hashlib.sha256(content[:-size]).digest() == content[-size:]


def _found(*names: str) -> str:
    return next((name for name in names if shutil.which(name)), names[0])


def _processor() -> str:
    """The processor's instruction sets as Linux lists them (x86: flags, ARM: Features); empty if it lists none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith(("flags", "Features"))), ""
    )


def _first_error(output: str) -> str:
    return next((line for line in output.splitlines() if "error" in line), _first_line(output))


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
