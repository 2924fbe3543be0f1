"""A worker: it loads the model, and computes and writes the parts from a run (`work`).

As a process on the run's machine (`serve`), it lives as long as the run that started it: when the run is gone, the
pipe ends, and the worker ends at once. It has its own session, so a terminal's Ctrl-C reaches only the run, which
decides about its workers.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import fields
from queue import SimpleQueue
from typing import NoReturn, Protocol

import pyarrow as pa

from attnstore.engine.batches import Batch
from attnstore.engine.devices import on_threads
from attnstore.engine.loading import load_classifier
from attnstore.engine.reductions import resolve_reductions
from attnstore.engine.segmenter import Segmenter
from attnstore.errors import AttnstoreError, ModelError, StoreError
from attnstore.pipeline.ahead import ahead
from attnstore.pipeline.describe import LoadedModel
from attnstore.pipeline.parts import Part, batches, write_parts
from attnstore.pipeline.wire import Begin, Hired, Loaded, Refused, Stepped, Stop, Took, Wire, Wrote
from attnstore.store.lent import lent_store
from attnstore.store.manifest import StoredFile, read_manifest
from attnstore.store.place import place
from attnstore.store.store import Store

#: The parts from a run, in order; None when no more will come.
Inbox = SimpleQueue[Begin | Part | None]

#: What may differ between workers, because it changes no byte.
_OWN = ("batch_tokens", "notes")


class Sender(Protocol):
    """The connection to the run."""

    def send(self, message: object) -> None: ...


def serve() -> NoReturn:
    """Work for the run that started this process, over standard input and output, until either ends."""
    run = os.getppid()
    wire = _own_pipes()
    for name in (
        "SIGINT",
        "SIGTERM",
        "SIGHUP",
        "SIGQUIT",
    ):  # a scheduler may send these signals to every process of a job
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    try:
        hired = wire.receive()
        inbox: Inbox = SimpleQueue()
        stop = threading.Event()
        threading.Thread(target=_listen, args=(wire, inbox, stop), daemon=True).start()
        with refusals(wire):
            work(wire, inbox, stop, hired, lambda: os.getppid() == run)
    except (EOFError, BrokenPipeError):  # the run is gone
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    # Nothing is left to clean up, and the listening thread would not end.
    os._exit(0)


def _own_pipes() -> Wire:
    """Standard input and output, protected from any other code in this process that reads or prints."""
    reading, writing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # the run was started without standard error
        os.dup2(nothing, 1)
    os.close(nothing)
    sys.stdout = sys.stderr
    return Wire(os.fdopen(reading, "rb"), os.fdopen(writing, "wb"))


def _listen(wire: Wire, inbox: Inbox, stop: threading.Event) -> None:
    """Receive the run's messages at once, so that it never waits for this worker; end when the run ends."""
    while True:
        try:
            message = wire.receive()
        except EOFError:
            os._exit(1)
        if isinstance(message, Stop):
            stop.set()
            message = None
        inbox.put(message)


@contextmanager
def refusals(wire: Sender) -> Iterator[None]:
    """Report errors to the run that any other worker would have, too."""
    try:
        yield
    except (AttnstoreError, MemoryError) as error:
        wire.send(Refused(error))


def work(wire: Sender, inbox: Inbox, stop: threading.Event, hired: Hired, lent: Callable[[], bool]) -> None:
    """Load the model and report it, then compute and write the parts that arrive, until there is a None.

    `lent`: whether the run, which lends the store's lock, is alive. Raises AttnstoreError or MemoryError.
    """
    config, segmenter = hired.config, Segmenter()
    pa.set_cpu_count(hired.threads)
    with on_threads(hired.threads):
        classifier = load_classifier(config, resolve_reductions(config.reductions))
        own = LoadedModel.of(classifier, config, segmenter, hired.threads)
        wire.send(Loaded(own))
        begin = inbox.get()
        if not isinstance(begin, Begin):
            return
        _must_be_alike(own, begin.model)
        store = lent_store(place(begin.store), begin.manifest, lent)
        _must_see(store)

        def finished(part: int, files: tuple[StoredFile, ...]) -> None:
            now = LoadedModel.of(classifier, config, segmenter, hired.threads)
            wire.send(Wrote(part, files, frozenset(classifier.all_null), tuple(segmenter.notes), now))

        with ahead(batches(_handed(inbox), config, classifier, own.stride)) as ready:
            try:
                taken = _announced(ready, wire)
                for part, step in write_parts(
                    store, config, classifier, taken, segmenter, stop, finished=finished
                ):
                    wire.send(Stepped(part, step))
            finally:
                inbox.put(None)  # otherwise the thread that works ahead would wait for another part


def _handed(inbox: Inbox) -> Generator[Part]:
    while isinstance(part := inbox.get(), Part):
        yield part


def _announced(parts: Iterator[tuple[int, list[Batch]]], wire: Sender) -> Iterator[tuple[int, list[Batch]]]:
    """The same parts. Tells the run when each begins, so that the run hands over the next one."""
    for part, of_part in parts:
        wire.send(Took(part))
        yield part, of_part


def _must_see(store: Store) -> None:
    """Raise StoreError if this machine has another store at that place, or none, as with other disks."""
    there = read_manifest(store.path)
    if there is None or there.to_json() != store.manifest.to_json():
        raise StoreError(
            f"{store.path} is not the run's store here: several machines write one store on a shared folder, or in a"
            " bucket (s3://…)"
        )


def _must_be_alike(own: LoadedModel, first: LoadedModel) -> None:
    """Raise ModelError if this worker would compute different bytes from the first one."""
    for name in (field.name for field in fields(LoadedModel) if field.name not in _OWN):
        if (here := getattr(own, name)) != (there := getattr(first, name)):
            raise ModelError(
                f"the workers would not compute the same: {name} is {here} in one, {there} in another: set --dtype and"
                " --device, or use one worker"
            )
