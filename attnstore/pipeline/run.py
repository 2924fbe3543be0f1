"""The main function: a data set through a classifier into a sealed store.

    documents → tokens → batches → reduced attention → rows → parts → sealed

There is one bounded queue on each side of the forward pass: the next part is tokenised ahead of it, and the last one
is written behind it. Parts are complete or absent: a run that ends early in any way leaves every finished part, and
the same run started again continues with the missing parts.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from attnstore.config import RunConfig
from attnstore.data.labels import match_labels
from attnstore.data.sources import open_source
from attnstore.data.survey import survey
from attnstore.engine.devices import other_threads
from attnstore.engine.models import read_model_files
from attnstore.engine.reductions import resolve_reductions
from attnstore.events import Noted, OnEvent, Started, ignore
from attnstore.interrupts import stop_on_interrupt, waited_for
from attnstore.pipeline.describe import check, describe
from attnstore.pipeline.fill import fill
from attnstore.pipeline.hands import hands
from attnstore.pipeline.parts import missing_parts
from attnstore.store.place import Place
from attnstore.store.resume import create_or_resume, threads_begun_with
from attnstore.store.store import Store


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did. `documents`, `tokens` and `seconds` describe only this call; `seconds` is the time of its parts.

    `interrupted`: parts are missing; `signal` is the number of the interrupting signal, 0 if there was none.
    """

    store: Store
    documents: int
    tokens: int
    seconds: float
    parts_before: int
    interrupted: bool
    signal: int = 0


def run(config: RunConfig, path: str | Place, *, on_event: OnEvent = ignore) -> RunResult:
    """Run a data set through a classifier into the store at `path`, or continue its run.

    Ctrl-C, SIGTERM or SIGHUP end it after the current part, with `interrupted` set; a second one ends it at once.

    Raises:
        AttnstoreError: the subclass for what is wrong: the data, the model, the options or the store.
    """
    resolve_reductions(config.reductions)
    check(config)
    source = open_source(config.source, on_event=on_event)
    files = read_model_files(config)  # a wrong model is reported before reading the data, which may take long
    begun = threads_begun_with(path)
    with hands(config, files, begun, on_event) as computing:
        with ThreadPoolExecutor(1) as aside:  # reading the data takes as long as loading the model: do both
            surveyed = aside.submit(survey, source, on_event)
            model = computing.load()
            found = waited_for(surveyed)
        labels = match_labels(found, model.labels, config.source.labels)
        manifest = describe(config, source, found, labels, model)

        def stopping(why: str) -> None:
            on_event(
                Noted(f"{why}: the part in hand is finished first; a second signal ends the run at once")
            )

        with create_or_resume(path, manifest) as store, stop_on_interrupt(stopping) as stop:
            before = store.finished_parts()
            on_event(Started(manifest.documents, store.manifest.notes))
            if manifest.threads and begun and begun != model.threads and not store.sealed:
                on_event(Noted(other_threads(begun, model.threads)))
            parts = missing_parts(store, config, source, found, labels)
            filled = fill(store, parts, computing, stop, on_event)
            if not store.missing_parts() and not store.sealed:
                computing.close()  # summing takes a third of its memory
                store.seal()
            missing = bool(store.missing_parts())
            return RunResult(
                store, filled.documents, filled.tokens, filled.seconds, len(before), missing, stop.number
            )
