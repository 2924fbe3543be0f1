"""Chooses the epoch whose weights are kept."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnstore.learn.checkpoints import keeping


class Choice:
    """Which epoch's weights are taken: the latest that no earlier epoch beats by more than chance.

    The highest accuracy is the wrong rule if few documents are held out: of equally good epochs it takes a random one,
    and an early epoch stopped in the middle of its schedule, at a high learning rate. Two epochs predict the same
    documents, so they are compared by those on which they differ: if only the earlier is right on w and only the later
    on l, w of w + l is tested against one half, one-sided (the exact form of McNemar's test, Psychometrika 12, 1947).
    `folder` keeps each epoch's hits, so that a resumed run chooses as if never interrupted.
    """

    #: The earlier epoch wins if chance would favour it as much less often than this.
    LEVEL = 0.05

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def metrics(self, epoch: int, hits: NDArray[np.bool_], *, choosing: bool) -> dict[str, float]:
        """A measurement for Trainer: `accuracy`, and `rank`, of which it takes the highest.

        `epoch` counts from 0; `hits` [documents] says which held-out documents it has right, in the order of
        the earlier epochs. A measurement that chooses nothing (of the test split) has no rank.
        """
        accuracy = float(hits.mean())
        if not choosing:
            return {"accuracy": accuracy}
        with keeping(self.folder.parent):
            np.save(self._file(epoch), hits)
            before = [np.load(self._file(earlier)) for earlier in range(epoch)]
        beaten = any(self._beats(earlier, hits) for earlier in before)
        return {"accuracy": accuracy, "rank": float(-1 if beaten else epoch)}

    def _file(self, epoch: int) -> Path:
        return self.folder / f"hits-{epoch}.npy"

    def _beats(self, earlier: NDArray[np.bool_], later: NDArray[np.bool_]) -> bool:
        from scipy.stats import binomtest

        won, lost = int((earlier & ~later).sum()), int((later & ~earlier).sum())
        return won > lost and binomtest(won, won + lost, alternative="greater").pvalue < self.LEVEL
