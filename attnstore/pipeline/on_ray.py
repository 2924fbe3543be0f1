"""Workers that are actors of a Ray cluster, wherever Ray puts them.

Ray starts them, gives each its processors and its GPU, and ends them with the process that requested them. The run
(`workers`) hands out work and replaces lost actors: Ray restarts and retries nothing. An actor is polled continuously
and must answer, because Ray may take long to notice that one is gone (ray#62746). An actor that is not polled writes
nothing, because its run may have ended and the store may have another writer.
"""

import os
import pickle
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from attnstore.config import RunConfig
from attnstore.engine.devices import threads_each
from attnstore.errors import AttnstoreError, UsageError, WorkerError
from attnstore.events import Noted, OnEvent
from attnstore.interrupts import undisturbed
from attnstore.messages import counted, first_line
from attnstore.pipeline.describe import versions
from attnstore.pipeline.wire import Hired, Refused, Stop
from attnstore.pipeline.worker import Inbox, refusals, work

#: Seconds that an actor waits for a message to send before it answers that there is none.
_SAID_WITHIN = 1.0
#: Seconds within which a started actor must answer, and how often the run checks meanwhile.
_ANSWERS_WITHIN, _LOOKED_EVERY = 120, 1.0
#: Seconds since the last poll after which an actor stops writing, and after which it ends.
_WAITS_AFTER, _ENDS_AFTER = 15.0, 600.0
#: Seconds for finding out whether anything listens at an address.
_CONNECTS_WITHIN = 10.0
#: Packages that need the same version everywhere for the same bytes.
_SAME = ("attnstore", "torch", "transformers", "tokenizers", "regex", "pyarrow")


@dataclass(frozen=True, slots=True)
class _Node:
    """A machine's resources in the cluster."""

    cpus: int
    gpus: int


class Cluster:
    """The cluster at `config.ray`, as the host of a run's workers. No actor of the run remains when it is closed."""

    def __init__(self, config: RunConfig, begun: int | None, on_event: OnEvent) -> None:
        """Connect, or start a cluster on this machine for `local`. `begun`: as in `devices.threads_each`.

        Raises:
            UsageError: Ray is not installed, or the address or the device is invalid. WorkerError: no cluster answers
            there.
        """
        address = config.ray or ""
        if ":" in config.device:
            raise UsageError(f"--device {config.device}: with --ray, Ray chooses the GPUs: --device cuda")
        try:
            import ray
        except ImportError:
            raise UsageError("--ray needs another package: pip install 'attnstore[ray]'") from None
        self._ray: Any = ray
        #: How many processors each worker uses.
        self.threads = config.threads or threads_each(config.workers, begun)
        self._connected = not ray.is_initialized()  # otherwise the program connected, and disconnects itself
        if self._connected:
            self._connect(address, config.workers * self.threads)
        nodes = [
            _Node(int(found.get("CPU", 0)), int(found.get("GPU", 0)))
            for node in ray.nodes()
            if node["Alive"] and (found := node["Resources"])
        ]
        self._gpus = int(config.device == "cuda" or (config.device == "auto" and any(n.gpus for n in nodes)))
        if address != "local" and not config.threads:
            self.threads = threads_that_fit(nodes, config.workers, self._gpus, begun)
        room = sum(_room(node, self.threads, self._gpus) for node in nodes)
        if room < config.workers:
            each = counted(self.threads, "CPU") + (" and a GPU" if self._gpus else "")
            on_event(
                Noted(
                    f"the cluster has room for {room} of {counted(config.workers, 'worker')} with {each} each: the"
                    " others wait for more (--threads sets the CPUs)"
                )
            )

    def _connect(self, address: str, cpus: int) -> None:
        more: dict[str, Any] = {}
        if address == "local":
            # Otherwise its workers would yield to all other processes of a busy machine; and send no usage reports.
            os.environ.setdefault("RAY_worker_niceness", "0")
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            # If more processors are requested than exist, each worker gets a share, as with processes.
            more = {"num_cpus": cpus, "include_dashboard": False}
        elif address != "auto":
            _must_listen(address)
        try:
            with undisturbed():
                self._ray.init(address=address, log_to_driver=False, logging_level="ERROR", **more)
        except (OSError, ValueError, RuntimeError, AssertionError, TimeoutError) as error:
            raise WorkerError(
                f"--ray {address}: no Ray cluster answers there: {first_line(error)}"
            ) from error
        _print_nothing()

    def prepare(self, config: RunConfig) -> None:
        """Ray does."""

    def start(self, _place: int, threads: int) -> "Actor":
        hire = self._ray.remote(
            num_cpus=threads,
            num_gpus=self._gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=3,  # `take`, `say`, and one to spare
            scheduling_strategy="SPREAD",
        )(Hand)
        paths = [path for path in sys.path if isinstance(path, str)]
        try:
            return Actor(self._ray, hire.remote(paths, threads, versions(), socket.gethostname()))
        except (*_errors(self._ray),) as error:
            raise WorkerError(f"Ray can't start a worker: {first_line(error)}") from error

    def close(self) -> None:
        """Harmless when done twice."""
        if self._connected:
            self._connected = False
            self._ray.shutdown()


def threads_that_fit(nodes: Sequence[_Node], workers: int, gpus: int, begun: int | None) -> int:
    """The number of processors per worker with which all workers fit, at least 1.

    `begun`: the number that the store began with, used again if that fits. `gpus`: GPUs that each worker needs.
    """

    def fits(threads: int) -> bool:
        return sum(_room(node, threads, gpus) for node in nodes) >= workers

    if begun is not None and fits(begun):
        return begun
    most = max((node.cpus for node in nodes), default=1)
    return next((threads for threads in range(most, 1, -1) if fits(threads)), 1)


def _room(node: _Node, threads: int, gpus: int) -> int:
    """How many workers fit on a machine."""
    return min(node.cpus // threads, node.gpus // gpus if gpus else node.cpus)


def _must_listen(address: str) -> None:
    """Raise UsageError for an invalid address, WorkerError if nothing listens there: Ray would end the process."""
    scheme, _, rest = address.rpartition("://")
    host, _, port = rest.rpartition(":")
    if scheme not in ("", "ray") or not host or not port.isdecimal():
        raise UsageError(f"--ray {address}: it is local, auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECTS_WITHIN).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise WorkerError(f"--ray {address}: no Ray cluster answers there: {why}") from error


def _print_nothing() -> None:
    """Keep Ray from printing about lost workers on standard output, which is for answers: the run reports them."""
    with suppress(ImportError):
        import ray._private.worker as of_driver

        of_driver._worker_logs_enabled = False  # as Ray's debugger does, while it has the terminal


def _errors(ray: Any) -> tuple[type[Exception], ...]:
    """The errors of Ray's calls if an actor, a machine or the cluster is gone."""
    return (ray.exceptions.RayError, OSError, ValueError, RuntimeError)


class Actor:
    """The run's side of an actor. Only its own thread receives; another one sends."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self._said: list[bytes] = []
        self._how = "without a word"
        #: Whether Ray has found room for it, and it has answered.
        self.started = False

    def send(self, message: object) -> None:
        try:
            # Synchronous, so that the next message can't overtake it.
            self._ray.get(self._actor.take.remote(pickle.dumps(_absolute(message), protocol=5)))
        except _errors(self._ray) as error:
            raise OSError(first_line(error)) from error

    def receive(self) -> Any:
        while not self._said:
            self._said = self._answer()
        message = pickle.loads(self._said.pop(0))  # noqa: S301 - of an actor that the run has made
        if isinstance(message, _Over):
            self._how = message.how or self._how
            raise EOFError
        return message

    def _answer(self) -> list[bytes]:
        try:
            asked = self._actor.say.remote()
            # Checks are counted, not seconds: a run that was stopped itself has not checked.
            looks = 0
            while not self._ray.wait([asked], timeout=_LOOKED_EVERY)[0]:
                looks += self.started
                if looks > _ANSWERS_WITHIN:
                    self._how = f"without an answer for {_ANSWERS_WITHIN} seconds"
                    raise EOFError(self._how)
            said: list[bytes] = self._ray.get(asked)
        except _errors(self._ray) as error:
            self._how = f"as Ray says: {_worded(error)}"
            raise EOFError(str(error)) from error
        self.started = True
        return said

    def end(self) -> None:
        with suppress(*_errors(self._ray)):
            self._ray.kill(self._actor)

    def how_it_ended(self) -> str:
        return self._how


def _absolute(message: object) -> object:
    """The configuration for an actor, which has another working directory: a model's folder by its absolute path."""
    if isinstance(message, Hired) and Path(message.config.model).is_dir():
        model = str(Path(message.config.model).absolute())
        return replace(message, config=replace(message.config, model=model))
    return message


def _worded(error: Exception) -> str:
    """The line of Ray's message that says what happened: the actor's error, or why it is gone."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    raised = [line for line in lines if line.split(":")[0].endswith("Error") and ": " in line]
    return raised[-1] if raised else first_line(error)


@dataclass(frozen=True, slots=True)
class _Over:
    """An actor's last message. `how`: what ended it, in words; empty if it finished its work."""

    how: str = ""


class Hand:
    """The actor: a worker in a thread, and its messages both ways. Records are pickled: Ray sees only bytes."""

    def __init__(self, paths: Sequence[str], threads: int, of_run: Mapping[str, str], host: str) -> None:
        """`paths`: the run's import paths; `of_run`: its versions; `host`: its machine."""
        os.environ.setdefault("RAYON_NUM_THREADS", str(threads))  # tokenizers have their own threads
        sys.path += [path for path in paths if path not in sys.path]
        self._inbox: Inbox = SimpleQueue()
        self._said: SimpleQueue[bytes] = SimpleQueue()
        self._stop = threading.Event()
        self._where = "" if socket.gethostname() == host else f"on {socket.gethostname()}: "
        self._asked = time.monotonic()
        self._refused = False
        threading.Thread(target=self._watch, daemon=True).start()
        with self._ending():
            _must_be_of_one_version(versions(), of_run)

    def take(self, content: bytes) -> None:
        """Receive a message from the run."""
        if self._refused:
            return
        message = pickle.loads(content)  # noqa: S301 - of the run that has made this actor
        if isinstance(message, Hired):
            threading.Thread(target=self._serve, args=(message,), daemon=True).start()
        elif isinstance(message, Stop):
            self._stop.set()
            self._inbox.put(None)
        else:
            self._inbox.put(message)

    def say(self) -> list[bytes]:
        """The messages to send, in order; waits for one, a moment at most."""
        self._asked = time.monotonic()
        found = []
        with suppress(Empty):
            found.append(self._said.get(timeout=_SAID_WITHIN))
            while True:
                found.append(self._said.get_nowait())
        self._asked = time.monotonic()
        return found

    def send(self, message: object) -> None:
        if isinstance(message, Refused) and isinstance(message.error, AttnstoreError):
            message = Refused(type(message.error)(f"{self._where}{message.error}"))
        self._said.put(pickle.dumps(message, protocol=5))

    def _serve(self, hired: Hired) -> None:
        with self._ending():
            work(self, self._inbox, self._stop, hired, self._is_lent)
            self.send(_Over())

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Report any error to the run."""
        try:
            with refusals(self):
                yield
                return
        except BaseException as error:
            traceback.print_exc()
            self.send(_Over(f"by {type(error).__name__}: {first_line(error)}"))
        self._refused = True

    def _is_lent(self) -> bool:
        """Wait until the run is known to be alive."""
        while time.monotonic() - self._asked > _WAITS_AFTER:
            time.sleep(_LOOKED_EVERY)
        return True

    def _watch(self) -> None:
        """End the actor if nobody polls it any more and Ray does not end it."""
        while time.monotonic() - self._asked < _ENDS_AFTER:
            time.sleep(_LOOKED_EVERY)
        os._exit(1)


def _must_be_of_one_version(own: Mapping[str, str], of_run: Mapping[str, str]) -> None:
    """Raise WorkerError if this machine's versions of packages that determine the bytes differ from the run's."""
    for name in _SAME:
        if own[name] != of_run[name]:
            raise WorkerError(
                f"the workers would not compute the same: {name} is {own[name]} here, {of_run[name]} in the run:"
                " install the same version everywhere"
            )
