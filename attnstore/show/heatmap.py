"""A shaded document that draws itself: as text when printed, as a picture in a notebook.

It is above `terminal` and `page`, which draw the plain record, `ShadedDocument`, and do not know about it.
"""

from attnstore.show.page import fragment
from attnstore.show.shading import ShadedDocument
from attnstore.show.terminal import terminal


class Heatmap(ShadedDocument):
    """A shaded document that draws itself when printed, or as the last line of a notebook's cell."""

    __slots__ = ()

    def __str__(self) -> str:
        return terminal(self, "none")

    def _repr_html_(self) -> str:
        return fragment(self)
