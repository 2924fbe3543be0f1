"""Processes that start without importing: forks of a process that has imported what a run needs.

An interpreter that imports torch and transformers takes at least six seconds; a fork of one that has them, a moment. (A
fork takes half a second to end in order, which is as long as a small interpreter needs in all. So it is not worth it
for those.) A fork is a process like any other: it has its own signals, streams and threads, and its own exit code. But
libraries have already read the environment when they were imported. A test about that, or about the start of the
interpreter, must start a new interpreter. pytest-xdist's processes are such forks, too. || `attended` starts the
process that forks, which imports nothing until it is asked to. `Child` asks it, and so does `interpreter`, for code
that starts processes with `sys.executable`. If it was not started, because the system can't fork such processes safely,
these are ordinary interpreters.
"""

import contextlib
import gc
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_ADDRESS = "ATTNSTORE_NURSERY"
_PATH = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@contextlib.contextmanager
def attended() -> Iterator[None]:
    """Let `Child` fork, in this process and in those that it starts."""
    if sys.platform != "linux" or _ADDRESS in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="nursery-") as folder:
        os.environ[_ADDRESS] = str(Path(folder) / "socket")
        python = Path(folder) / "python"
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S {shlex.quote(__file__)} "$@"\n')
        python.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.environ[_ADDRESS])
            listener.listen(64)
            process = subprocess.Popen(
                [sys.executable, __file__, str(listener.fileno())],
                stdin=subprocess.PIPE,  # so that it ends when this process does, however that ends
                pass_fds=[listener.fileno()],
                env=os.environ | _PATH,
            )
        try:
            yield
        finally:
            del os.environ[_ADDRESS]
            process.communicate()


def interpreter() -> str:
    """The path of a Python that, with `-c code arguments …`, is forked instead of importing again.

    It ends like the forked process, which ends if it is killed. The two are different processes.
    """
    return str(Path(os.environ[_ADDRESS]).with_name("python")) if _ADDRESS in os.environ else sys.executable


def _forked(
    code: str, arguments: list[str], environment: Mapping[str, str], streams: Sequence[int]
) -> tuple[socket.socket, int]:
    """A fork with these streams: the connection that reports its end, and its process id.

    It ends with the connection.
    """
    guard = socket.socket(socket.AF_UNIX)
    guard.connect(os.environ[_ADDRESS])
    socket.send_fds(guard, [b"\n"], streams)
    request = {
        "code": code,
        "arguments": arguments,
        "environment": dict(environment),
        "folder": str(Path.cwd()),
    }
    guard.sendall(json.dumps(request).encode() + b"\n")
    return guard, int(_line(guard))


class Child:
    """`python -c code arguments …` with text pipes, with the interface of `subprocess.Popen`."""

    spent = 0.0
    """Processor seconds of all that have been waited for: the system counts them as no children of this process."""

    def __init__(self, code: str, *arguments: object, **environment: str) -> None:
        given = list(map(str, arguments))
        wanted = os.environ | environment
        pipes = [os.pipe() for _ in range(3)]
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        self.stdin, self.stdout, self.stderr = (
            os.fdopen(ours, mode)
            for ours, mode in ((pipes[0][1], "w"), (pipes[1][0], "r"), (pipes[2][0], "r"))
        )
        self.returncode: int | None = None
        self._process = self._guard = None
        if _ADDRESS in os.environ:
            self._guard, self.pid = _forked(code, given, wanted, theirs)
        else:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, *given],
                stdin=theirs[0], stdout=theirs[1], stderr=theirs[2], env=_PATH | wanted,
            )  # fmt: skip
            self.pid = self._process.pid
        for end in theirs:
            os.close(end)

    def send_signal(self, number: int) -> None:
        """Nothing is sent to a process whose end `wait` has seen."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """The exit code, or minus the number of the signal that ended the process; None while it runs."""
        if self.returncode is None and self._process is not None:
            self.returncode = self._process.poll()
        elif self.returncode is None and select.select([self._guard], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None and self._process is not None:
            self.returncode = self._process.wait()
        elif self.returncode is None:
            status, seconds = _line(self._guard).split()
            self.returncode = int(status)
            Child.spent += float(seconds)
            self._guard.close()
        return self.returncode

    def communicate(self, given: str = "", timeout: float = 120) -> tuple[str, str]:
        """Write to its input and close it, read both its outputs to the end, and wait.

        After that many seconds the process is killed.
        """
        watch = threading.Timer(timeout, self.kill)
        watch.start()
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.append(self.stderr.read()))
        reader.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.write(given)
                self.stdin.close()
            out = self.stdout.read()
            reader.join()
            self.wait()
        finally:
            watch.cancel()
            self.close()
        return out, errors[0]

    def close(self) -> None:
        """Kill the process if it still runs."""
        self.kill()
        self.wait()
        for pipe in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _line(connection: socket.socket) -> bytes:
    """One line, without reading beyond it."""
    with connection.makefile("rb", buffering=0) as file:
        return file.readline()


def _begin(listener: socket.socket) -> str:
    """Fork for each request. Returns only in the children: the code to run."""
    imported = False
    while True:
        ready, _, _ = select.select([listener, 0], [], [])
        if listener not in ready:
            os._exit(0)  # the process that started this one has ended
        connection, _ = listener.accept()
        if not imported:
            _import()
            imported = True
        if not os.fork():
            listener.close()
            return _guard(connection)
        connection.close()


def _import() -> None:
    """Import what a run needs, except Polars, which starts a thread when it is imported; jemalloc's threads do not
    survive a fork.
    """
    gc.disable()  # none of it is ever freed
    import transformers.models.auto.modeling_auto
    import transformers.models.bert.modeling_bert
    import transformers.models.bert.tokenization_bert  # noqa: F401

    import attnstore.commands
    import attnstore.pipeline.run  # noqa: F401

    threads = {thread.joinpath("comm").read_text() for thread in Path("/proc/self/task").glob("[0-9]*")}
    assert len(threads - {"jemalloc_bg_thd\n"}) == 1, f"a process with threads can't be forked: {threads}"
    gc.freeze()  # a garbage collection in a child would copy all memory
    gc.enable()
    signal.signal(signal.SIGCHLD, _reap)


def _reap(*_: object) -> None:
    """Guards end unseen, but the time of them and their children counts as ours."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _guard(connection: socket.socket) -> str:
    """Fork the child, report its process id and its exit code, and kill it if the requesting process goes away."""
    try:
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        request = json.loads(_line(connection))
    except (
        OSError,
        ValueError,
    ):  # the requesting process may be killed at any moment, even before its request
        os._exit(0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if child := os.fork():
        for stream in streams:
            os.close(stream)
        with contextlib.suppress(OSError):  # if the requesting process has gone, the connection is closed
            connection.sendall(f"{child}\n".encode())
        ended = os.pidfd_open(child)
        if ended not in select.select([ended, connection], [], [])[0]:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(OSError):
            connection.sendall(f"{status} {sum(os.times()[:4])}\n".encode())
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["-c", *request["arguments"]]
    return request["code"]


def _stand_in(code: str, arguments: list[str]) -> None:
    """Let a fork have this process's streams, and end like it."""
    guard, _ = _forked(code, arguments, os.environ, (0, 1, 2))
    status = int(_line(guard).split()[0])
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__" and "-c" in sys.argv:
    at = sys.argv.index("-c")
    _stand_in(sys.argv[at + 1], sys.argv[at + 2 :])
elif __name__ == "__main__":
    code = _begin(socket.socket(fileno=int(sys.argv[1])))
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - it is `python -c`
