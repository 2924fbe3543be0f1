"""Workers that are processes of this machine: started, given a GPU each, ended."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

from attnstore.config import RunConfig
from attnstore.engine.devices import choose_device, visible_gpus
from attnstore.engine.paths import compiler
from attnstore.errors import WorkerError
from attnstore.pipeline.wire import Wire

#: Seconds that a process gets to end. One that waits for a broken disk does not end.
_DEAD_WITHIN = 10.0
#: A worker imports what the run would, from the same places, and nothing from its working directory.
_SERVE = (
    "import sys, json; sys.path[:] = json.loads(sys.argv.pop())\n"
    "from attnstore.pipeline.orphans import end_with_the_run; end_with_the_run()\n"
    "from attnstore.pipeline.worker import serve; serve()"
)


class Processes:
    """This machine, as the host of a run's workers. On a machine with GPUs each place has one of them."""

    def __init__(self) -> None:
        self._gpus: list[str] = []

    def prepare(self, config: RunConfig) -> None:
        """Find the GPUs, or build the kernel that all workers load. Raises UsageError if there is no such device."""
        device = choose_device(config.device).type
        if device == "cuda":
            self._gpus = [] if ":" in config.device else visible_gpus()  # numbers count all visible GPUs
        elif device == "cpu" and (asked := compiler.asked_for()) != "off":
            with suppress(compiler.NoKernelError, OSError, subprocess.SubprocessError):
                compiler.library(asked)  # once, not in each worker

    def start(self, place: int, threads: int) -> "Process":
        environment = os.environ | {
            # Tokenizers have their own threads.
            "RAYON_NUM_THREADS": os.environ.get("RAYON_NUM_THREADS", str(threads))
        }
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[place % len(self._gpus)]
        paths = json.dumps([path for path in sys.path if isinstance(path, str)])
        try:
            started = subprocess.Popen(  # noqa: S603 - this Python, with what this process has imported
                [sys.executable, "-P", "-c", _SERVE, paths],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                # Ctrl-C goes to the terminal's whole process group.
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            raise WorkerError(f"a worker can't be started: {error.strerror or error}") from error
        return Process(started)

    def close(self) -> None:
        """Do nothing: no resource outlives the processes."""


class Process:
    """A worker process, with its standard input and output as the wire."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None  # noqa: S101 - they are pipes
        assert process.stdout is not None  # noqa: S101
        self.process = process
        self.started = True
        self._wire = Wire(process.stdout, process.stdin)

    def send(self, message: object) -> None:
        self._wire.send(message)

    def receive(self) -> Any:
        return self._wire.receive()

    def end(self) -> None:
        """What it is writing then does not count as a part."""
        self.process.kill()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_DEAD_WITHIN)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def how_it_ended(self) -> str:
        code = self.process.returncode
        if code is None:
            return "without an exit code"
        if code >= 0:
            return f"with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = ", as systems do where memory runs out" if name == "SIGKILL" else ""
        return f"by {name}{hint}"
