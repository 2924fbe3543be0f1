"""A run computed in this process."""

import gc
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from attnstore.config import RunConfig
from attnstore.engine.classifier import Classifier
from attnstore.engine.devices import on_threads
from attnstore.engine.loading import load_classifier
from attnstore.engine.models import ModelFiles
from attnstore.engine.paths import memory
from attnstore.engine.reductions import resolve_reductions
from attnstore.engine.segmenter import Segmenter
from attnstore.pipeline.ahead import ahead
from attnstore.pipeline.describe import LoadedModel
from attnstore.pipeline.parts import Part, Step, batches, write_parts
from attnstore.store.store import Store


class Alone:
    """One process that loads the model, computes and writes, on `threads` threads until it is closed."""

    def __init__(self, config: RunConfig, files: ModelFiles, threads: int) -> None:
        self.config = config
        self._files = files
        self._threads = threads
        self._classifier: Classifier | None = None
        self._segmenter = Segmenter()
        self._entered = ExitStack()

    @property
    def count(self) -> int:
        """How many processes compute."""
        return 1

    def __enter__(self) -> Self:
        self._entered.enter_context(on_threads(self._threads))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def load(self) -> LoadedModel:
        """Load the model. Raises ModelError or UsageError if that fails."""
        self._classifier = load_classifier(
            self.config, resolve_reductions(self.config.reductions), self._files
        )
        return self.model

    @property
    def _loaded(self) -> Classifier:
        assert self._classifier is not None  # noqa: S101 - `load` comes first
        return self._classifier

    @property
    def model(self) -> LoadedModel:
        """The model's current facts: its batches may have been lowered because memory ran out."""
        return LoadedModel.of(self._loaded, self.config, self._segmenter, self._threads)

    @property
    def all_null(self) -> set[str]:
        """The reductions without any value so far."""
        return self._loaded.all_null

    @property
    def notes(self) -> list[str]:
        """Notes for the user about the words of the texts."""
        return self._segmenter.notes

    def compute(self, store: Store, parts: Generator[Part], stop: threading.Event) -> Iterator[Step]:
        """Compute and write the parts, yielding a step for each batch. After `stop`, the current part is finished."""
        stride = self.model.stride
        tokenised = batches(parts, self.config, self._loaded, stride)
        with ahead(tokenised) as ready:
            written = write_parts(
                store, self.config, self._loaded, ready, self._segmenter, stop, writers=self._writers
            )
            for _, step in written:
                yield step

    @property
    def _writers(self) -> int:
        """How many parts are written at a time: enough to keep up with forward passes that cost nothing."""
        return min(4, max(self._threads // 4, min(self._threads, 2)))

    def close(self) -> None:
        """Release the model; harmless when done twice."""
        self._entered.close()
        if self._classifier is not None:
            self._classifier = None
            gc.collect()
            memory.give_back()
