"""A shaded document that draws itself: as text where it is printed, as a picture in a notebook.

It stands above `terminal` and `page`, which draw the plain record, `ShadedDocument`, and know nothing of it.
"""

from attnstore.show.page import fragment
from attnstore.show.shading import ShadedDocument
from attnstore.show.terminal import terminal


class Heatmap(ShadedDocument):
    """A shaded document that draws itself when it is printed or is the last line of a notebook's cell."""

    __slots__ = ()

    def __str__(self) -> str:
        return terminal(self, "none")

    def _repr_html_(self) -> str:
        return fragment(self)
