"""Processes that need not import first: forks of one that has imported what a run needs.

An interpreter that imports torch and transformers takes six seconds and more; a fork of one that has them, a moment.
(It takes half a second to end in order, as long as an interpreter needs that imports little: that is no case for it.)
From there on it is a process like any other: it has its own signals, streams and threads, and ends by its own exit
code. What libraries read of the environment while they are imported they have read before: a test about that, or
about how the interpreter begins, starts one of its own. pytest-xdist's processes are such forks, too.

`attended` begins the process that is forked, which imports nothing until it is asked; `Child` asks it, and so does
`interpreter`, for code that starts processes by `sys.executable`. Where it has not begun, because the system forks no
such processes safely, these are interpreters of their own.
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
                stdin=subprocess.PIPE,  # that it ends when we do, however we end
                pass_fds=[listener.fileno()],
                env=os.environ | _PATH,
            )
        try:
            yield
        finally:
            del os.environ[_ADDRESS]
            process.communicate()


def interpreter() -> str:
    """The path of a Python that is forked when it is told `-c code arguments …`, instead of importing anew.

    It ends as the forked process does, and that one if this one is killed. It is another process than that one.
    """
    return str(Path(os.environ[_ADDRESS]).with_name("python")) if _ADDRESS in os.environ else sys.executable


def _forked(
    code: str, arguments: list[str], environment: Mapping[str, str], streams: Sequence[int]
) -> tuple[socket.socket, int]:
    """A fork with these streams: the connection that says how it ends, and its number. It ends with the connection."""
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
    """`python -c code arguments …` with pipes of text, as `subprocess.Popen` has them."""

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
        """Nothing is sent to a process that `wait` has seen end."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """The exit code, minus the signal's number if one ended it; None while it runs."""
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
        """Write to its input and close that, read both its outputs to their ends, and wait; it is killed after that
        many seconds.
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
        """Kill it if it still runs."""
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
    """One line, and nothing of what follows it."""
    with connection.makefile("rb", buffering=0) as file:
        return file.readline()


def _begin(listener: socket.socket) -> str:
    """Fork for each request. It returns in the children alone: the code to be run."""
    imported = False
    while True:
        ready, _, _ = select.select([listener, 0], [], [])
        if listener not in ready:
            os._exit(0)  # whoever began us has ended
        connection, _ = listener.accept()
        if not imported:
            _import()
            imported = True
        if not os.fork():
            listener.close()
            return _guard(connection)
        connection.close()


def _import() -> None:
    """What a run needs. Not Polars, which begins a thread when it is imported; that of jemalloc minds forks."""
    gc.disable()  # nothing of it goes
    import transformers.models.auto.modeling_auto
    import transformers.models.bert.modeling_bert
    import transformers.models.bert.tokenization_bert  # noqa: F401

    import attnstore.commands
    import attnstore.pipeline.run  # noqa: F401

    threads = {thread.joinpath("comm").read_text() for thread in Path("/proc/self/task").glob("[0-9]*")}
    assert len(threads - {"jemalloc_bg_thd\n"}) == 1, f"a process with threads can't be forked: {threads}"
    gc.freeze()  # a child that looked at everything for what may go would copy all of it
    gc.enable()
    signal.signal(signal.SIGCHLD, _reap)


def _reap(*_: object) -> None:
    """Guards end unseen, but what they and their children took counts as ours."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _guard(connection: socket.socket) -> str:
    """Fork the child, report its number and its exit code, and kill it if who asked for it goes away."""
    try:
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        request = json.loads(_line(connection))
    except (
        OSError,
        ValueError,
    ):  # who asks may be killed at any moment, also before it has said what it wants
        os._exit(0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if child := os.fork():
        for stream in streams:
            os.close(stream)
        with contextlib.suppress(OSError):  # if who asked has gone, the connection is at its end
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
    """Let a fork have this process's streams, and end as it does."""
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
