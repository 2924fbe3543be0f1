"""Who computes a run: this process, processes of this machine, or the actors of a cluster."""

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
    """Those who compute the run. `begun`: on how many threads each of them has, in the store that is gone on with.

    Raises:
        UsageError: a reduction that no other process can import; `config.ray` can't be meant, or Ray is not there.
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
