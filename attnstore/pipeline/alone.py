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
    """One process that loads the model, computes and writes. It computes on so many threads until it is closed."""

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
        """Load the model. Raises ModelError or UsageError for one that can't be."""
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
        """The model as it is now: what its memory holds may have turned out to be less."""
        return LoadedModel.of(self._loaded, self.config, self._segmenter, self._threads)

    @property
    def all_null(self) -> set[str]:
        """The reductions that have given no token a value so far."""
        return self._loaded.all_null

    @property
    def notes(self) -> list[str]:
        """What a user should know of the texts that were cut into words."""
        return self._segmenter.notes

    def compute(self, store: Store, parts: Generator[Part], stop: threading.Event) -> Iterator[Step]:
        """Compute and write the parts, a step for each batch. After `stop` the part in hand is finished."""
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
        """How many parts are written at a time: so many keep up with passes that cost nothing."""
        return min(4, max(self._threads // 4, min(self._threads, 2)))

    def close(self) -> None:
        """Let the model go; harmless when done twice."""
        self._entered.close()
        if self._classifier is not None:
            self._classifier = None
            gc.collect()
            memory.give_back()
