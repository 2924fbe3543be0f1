"""What computes a run: this process, processes of this machine, or the actors of a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager

from attnstore.config import RunConfig
from attnstore.engine.devices import threads_each
from attnstore.engine.models import ModelFiles
from attnstore.events import OnEvent
from attnstore.pipeline.alone import Alone
from attnstore.pipeline.processes import Processes
from attnstore.pipeline.workers import Workers, must_be_importable


@contextmanager
def hands(
    config: RunConfig, files: ModelFiles, begun: int | None, on_event: OnEvent
) -> Iterator[Alone | Workers]:
    """What computes the run. `begun`: how many threads each process used so far, for a store that is resumed.

    Raises:
        UsageError: no other process can import a reduction; `config.ray` is invalid, or Ray is not installed.
        WorkerError: no cluster answers.
    """
    if config.ray is None and config.workers == 1:
        with Alone(config, files, config.threads or threads_each(1, begun)) as alone:
            yield alone
        return
    must_be_importable(config.reductions)
    if config.ray is None:
        threads = config.threads or threads_each(config.workers, begun)
        with Workers(config, threads, Processes()) as workers:
            yield workers
        return
    from attnstore.pipeline.on_ray import Cluster

    cluster = Cluster(config, begun, on_event)
    try:
        with Workers(config, cluster.threads, cluster) as workers:
            yield workers
    finally:
        cluster.close()
