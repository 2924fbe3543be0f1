"""Appends new documents to a sealed store, with the model that wrote it.

    documents → those that are new → the pipeline of `run` → the next state → the store's

The run's settings apply again: model, dtype, reductions, length, words, the meaning of labels. Anything that would
make new rows differ from the old ones is refused, with both values.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, get_args

from attnstore.config import AppendConfig, OnDuplicate, RunConfig, SourceConfig
from attnstore.data.continued import StoreLabels, known_labels, match_more
from attnstore.data.documents import Source
from attnstore.data.labels import LabelMap
from attnstore.data.selection import count_documents
from attnstore.data.sources import open_source
from attnstore.data.survey import Survey, survey
from attnstore.engine.devices import other_threads
from attnstore.engine.models import read_model_files, with_revision
from attnstore.engine.reductions import resolve_reductions
from attnstore.errors import ModelError, StoreError, UsageError
from attnstore.events import Noted, OnEvent, Started, ignore
from attnstore.interrupts import stop_on_interrupt, waited_for
from attnstore.messages import listed
from attnstore.pipeline.describe import check, describe, label_map
from attnstore.pipeline.fill import fill
from attnstore.pipeline.hands import hands
from attnstore.pipeline.parts import missing_parts
from attnstore.pipeline.repeated import without_repeated
from attnstore.store.known import labels_of
from attnstore.store.manifest import Addition, Manifest
from attnstore.store.partitions import label_fits_in_path
from attnstore.store.place import Place
from attnstore.store.resume import differences
from attnstore.store.stage import begin_or_resume, finish_append
from attnstore.store.store import Store, open_store

#: Options that name columns, taken from the run: new files usually have the same columns.
_COLUMNS = ("text-column", "label-column", "id-column", "group-column")

#: What may differ between two sources of one store.
_OF_A_SOURCE = frozenset(
    {"documents", "data_sha256", "split", "limit", "label_map", "labels_are_models", "label_in_path", "kept"}
)


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What an append did. `documents`, `tokens` and `seconds` describe only this call; `seconds` is the time of its
    parts.

    `skipped`: documents that the store had. If it was `interrupted`, `missing` of `parts` new parts do not exist yet;
    `signal` is the number of the interrupting signal, 0 if there was none. `present`: the data is in the store
    already.
    """

    store: Store
    documents: int
    tokens: int
    seconds: float
    skipped: int
    parts: int
    missing: int
    present: bool = False
    signal: int = 0

    @property
    def interrupted(self) -> bool:
        return self.missing > 0


def append(config: AppendConfig, path: str | Place, *, on_event: OnEvent = ignore) -> AppendResult:
    """Append the documents of a source to the sealed store at `path`, or continue an interrupted append.

    Readers see the old store until the append is complete. Data that the run or an append has already read is not
    appended again. Ctrl-C, SIGTERM or SIGHUP end it after the current part; a second one ends it at once.

    Raises:
        AttnstoreError: the subclass for what is wrong: the data, the model, the options or the store.
    """
    if config.on_duplicate not in get_args(OnDuplicate):
        raise UsageError(
            f"--on-duplicate {config.on_duplicate}: it is one of {', '.join(get_args(OnDuplicate))}"
        )
    store = finish_append(path)
    as_run = _as_run(store, config)
    check(as_run)
    resolve_reductions(as_run.reductions)
    source = _opened(as_run.source, config.source, on_event)
    try:
        files = read_model_files(as_run)
    except ModelError as error:
        advice = "" if config.model else ": give its new place with --model"
        raise ModelError(f"{error}{advice}") from error
    begun = store.manifest.threads
    with hands(as_run, files, begun, on_event) as computing:
        with ThreadPoolExecutor(1) as aside:
            surveyed = aside.submit(survey, source, on_event)
            model = computing.load()
            found = waited_for(surveyed)
        if model.model_sha256 != store.manifest.fingerprint["model_sha256"]:
            raise ModelError(
                f"{as_run.model} is not the store's model, its weights differ: give that model with --model"
            )
        labels = match_more(found, _labels(store), as_run.source.labels)
        key = _key(as_run.source, found, labels)
        if any(key.items() <= each.items() for each in _sources(store.manifest)):
            return AppendResult(store, 0, 0, 0.0, 0, 0, 0, present=True)
        source, skipped = without_repeated(
            store, source, found, labels, as_run.source.limit, config.on_duplicate
        )
        if skipped and skipped == count_documents(found, labels):
            return AppendResult(store, 0, 0, 0.0, skipped, 0, 0)
        if skipped:
            found = survey(source)
        manifest = describe(as_run, source, found, labels, model)
        _must_fit(store, manifest, labels)
        addition = Addition(
            documents=manifest.documents,
            data=manifest.data,
            fingerprint={**key, "on_duplicate": config.on_duplicate},
            versions=manifest.versions,
            created=manifest.created,
            rejected=manifest.rejected,
            rejected_rows=manifest.rejected_rows,
            notes=manifest.notes,
        )

        def stopping(why: str) -> None:
            on_event(
                Noted(f"{why}: the part in hand is finished first; a second signal ends the append at once")
            )

        are_models = store.manifest.labels_are_models or labels.are_models
        first = store.manifest.documents
        with begin_or_resume(store, addition, are_models) as stage, stop_on_interrupt(stopping) as stop:
            on_event(Started(addition.documents, addition.notes))
            if manifest.threads and begun and begun != model.threads:
                on_event(Noted(other_threads(begun, model.threads)))
            new = missing_parts(stage, as_run, source, found, labels, first)
            filled = fill(stage, new, computing, stop, on_event, first)
            missing, parts = len(stage.missing_parts()), stage.manifest.parts - store.manifest.parts
            if not missing:
                computing.close()  # summing takes a third of its memory
                stage.seal()
                store = open_store(store.path)
            return AppendResult(
                store,
                filled.documents,
                filled.tokens,
                filled.seconds,
                skipped,
                parts,
                missing,
                signal=stop.number,
            )


def _as_run(store: Store, config: AppendConfig) -> RunConfig:
    """The store's run, with other data. Raises StoreError if the store does not describe it fully."""
    manifest = store.manifest
    held = manifest.fingerprint
    if lacking := [name for name in ("model_sha256", "reductions", "dtype", "values") if name not in held]:
        raise StoreError(
            f"{store.path} does not say with which {lacking[0]} it was written: write a new store"
        )
    name, revision = with_revision(config.model or manifest.model)
    columns: dict[str, Any] = {}
    for option in _COLUMNS:
        given = getattr(config.source, field := option.replace("-", "_"))
        columns[field] = manifest.options.get(option) if given is None else given or None
    return RunConfig(
        replace(config.source, pair=manifest.pairs, keep=tuple(manifest.kept), **columns),
        name,
        revision=revision,
        trust_remote_code=config.trust_remote_code,
        device=config.device,
        dtype=held["dtype"],
        max_length=manifest.max_length,
        long=manifest.long,  # type: ignore[arg-type] # check looks at it
        stride=held.get("stride"),
        reductions=config.reductions or _reductions(store),
        batch_tokens=config.batch_tokens,
        part_size=manifest.part_size,
        threads=config.threads,
        workers=config.workers,
        worker_timeout=config.worker_timeout,
        ray=config.ray,
        full_precision=held["values"] == "float32",
    )


def _opened(source: SourceConfig, given: SourceConfig, on_event: OnEvent) -> Source:
    """The new data's source. Raises UsageError as `open_source`, and names the columns that the run named."""
    try:
        return open_source(source, on_event=on_event)
    except UsageError as error:
        fields = [each.replace("-", "_") for each in _COLUMNS]
        named = [each for each in fields if getattr(source, each) and getattr(given, each) is None]
        if not any(str(getattr(source, each)) in str(error) for each in named):
            raise
        options = listed([f"--{each.replace('_', '-')} {getattr(source, each)}" for each in named])
        raise UsageError(
            f"{error}; the store's run had {options}: name another column, or '' to detect it"
        ) from error


def _reductions(store: Store) -> tuple[str, ...]:
    """The reductions that the run was given."""
    if asked := store.manifest.options.get("reduce"):
        return tuple(asked)
    held: list[str] = store.manifest.fingerprint["reductions"]
    if own := [name for name in held if ":" in name]:
        raise StoreError(
            f"{store.path} has {own[0].partition(':')[0]}, a function of yours, and does not say where it is: from"
            " Python, attnstore.append takes reductions=[…]"
        )
    by_class = "evidence_by_class"
    return tuple(dict.fromkeys(by_class if name.startswith("evidence_for_") else name for name in held))


def _sources(manifest: Manifest) -> list[dict[str, Any]]:
    """The fingerprints of the store's sources: the run's, and each addition's."""
    return [manifest.fingerprint, *(addition.fingerprint for addition in manifest.additions)]


def _labels(store: Store) -> StoreLabels:
    labels = labels_of(store)
    maps = [each.get("label_map", ()) for each in _sources(store.manifest)]
    return StoreLabels(
        store.manifest.labels, store.manifest.labels_are_models, labels, known_labels(maps, labels)
    )


def _key(source: SourceConfig, found: Survey, labels: LabelMap) -> dict[str, Any]:
    """The identity of data, for comparison with data that was read before."""
    return {
        "data_sha256": found.sha256,
        "split": source.split,
        "limit": source.limit,
        "label_map": label_map(found, labels),
    }


def _must_fit(store: Store, ours: Manifest, labels: LabelMap) -> None:
    """Raise StoreError if the new rows would not fit the store's tables."""
    if found := differences(store.manifest, ours, but=_OF_A_SOURCE, how="now"):
        raise StoreError(f"can't append to {store.path}: {'; '.join(found)}")
    if store.manifest.label_in_path:
        used = sorted({*labels_of(store), *labels.mapping.values()})
        if not label_fits_in_path(used):
            raise StoreError(
                f"can't append to {store.path}: its labels are directories, and {listed(used)} can't all be: run over"
                " all of the data into a new store"
            )
