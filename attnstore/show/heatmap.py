"""One document's tokens, shaded by the attention they get, as a value that draws itself.

Its text is its picture in a terminal; in a notebook it is its own piece of a page. It stands above what draws
(`terminal`, `page`), which knows only the plain record, `ShadedDocument`.
"""

from attnstore.show.page import fragment
from attnstore.show.shading import ShadedDocument
from attnstore.show.terminal import terminal


class Heatmap(ShadedDocument):
    """A shaded document that draws itself when it is printed, or stands last in a notebook's cell."""

    __slots__ = ()

    def __str__(self) -> str:
        return terminal(self, "none")

    def _repr_html_(self) -> str:
        return fragment(self)
