"""The colours: paper and ink, and the shade of each level, as tables.

`tests/show/test_colours.py` derives every entry, and proves that each text can be read on its shade.
"""

from typing import Literal

Background = Literal["dark", "light"]

#: Per background: the paper, its ink, the ink for less important text, and thin lines.
PAGE: dict[Background, dict[str, str]] = {
    "light": {"paper": "#ffffff", "ink": "#1c1917", "faint": "#6b645e", "rule": "#e4dfd9"},
    "dark": {"paper": "#171513", "ink": "#e9e4de", "faint": "#a39b92", "rule": "#3a3632"},
}

#: Per background, for levels 1 to 20: the shade, and the colour of text on it. They go from the paper to one hue in
#: equal steps of OKLab, which look about equally large. Level 0 has no shade.
SHADES: dict[Background, tuple[tuple[str, str], ...]] = {
    "light": (
        ("#fffaf5", "#1c1917"), ("#fff4eb", "#1c1917"), ("#ffeee1", "#1c1917"), ("#fee9d7", "#1c1917"),
        ("#fee3cd", "#1c1917"), ("#fddec3", "#1c1917"), ("#fdd8b9", "#1c1917"), ("#fcd3ae", "#1c1917"),
        ("#fccda4", "#1c1917"), ("#fbc79a", "#1c1917"), ("#fac28f", "#1c1917"), ("#f9bc85", "#1c1917"),
        ("#f8b67a", "#1c1917"), ("#f7b06f", "#1c1917"), ("#f6aa63", "#1c1917"), ("#f5a456", "#1c1917"),
        ("#f49e49", "#1c1917"), ("#f3983a", "#1c1917"), ("#f19226", "#1c1917"), ("#f08c00", "#1c1917"),
    ),
    "dark": (
        ("#201c16", "#e9e4de"), ("#2a2318", "#e9e4de"), ("#342a1a", "#e9e4de"), ("#3e311c", "#e9e4de"),
        ("#49381e", "#e9e4de"), ("#543f20", "#e9e4de"), ("#5f4721", "#e9e4de"), ("#6a4f22", "#e9e4de"),
        ("#755623", "#e9e4de"), ("#815e23", "#e9e4de"), ("#8d6623", "#ffffff"), ("#996f23", "#000000"),
        ("#a57722", "#000000"), ("#b27f21", "#000000"), ("#be881f", "#000000"), ("#cb901d", "#000000"),
        ("#d89919", "#000000"), ("#e5a114", "#000000"), ("#f2aa0c", "#000000"), ("#ffb300", "#000000"),
    ),
}  # fmt: skip

#: The same for 256 colours: indices of xterm's cube and greys, which themes do not change; None for shades too weak to
#: have one. They are nearest to `SHADES` in hue; those nearest by distance drift into olive and pink.
XTERM_SHADES: dict[Background, tuple[tuple[int, int] | None, ...]] = {
    "light": (
        None, None, None, None, (230, 16),
        (230, 16), (230, 16), (230, 16), (223, 16), (223, 16),
        (223, 16), (223, 16), (215, 16), (215, 16), (215, 16),
        (215, 16), (208, 16), (208, 16), (208, 16), (208, 16),
    ),
    "dark": (
        None, None, (235, 231), (235, 231), (235, 231),
        (237, 231), (237, 231), (239, 231), (239, 231), (239, 231),
        (94, 231), (94, 231), (94, 231), (136, 16), (136, 16),
        (172, 16), (172, 16), (172, 16), (214, 16), (214, 16),
    ),
}  # fmt: skip

#: The same for negative values, which oppose: blue, about as strong, which the colour-blind can tell from orange.
AGAINST: dict[Background, tuple[tuple[str, str], ...]] = {
    "light": (
        ("#f6faff", "#1c1917"), ("#eef6ff", "#1c1917"), ("#e5f1ff", "#1c1917"), ("#dcecff", "#1c1917"),
        ("#d3e8ff", "#1c1917"), ("#cbe3fe", "#1c1917"), ("#c2defe", "#1c1917"), ("#b9dafe", "#1c1917"),
        ("#b1d5fd", "#1c1917"), ("#a8d0fd", "#1c1917"), ("#9fcbfc", "#1c1917"), ("#96c7fb", "#1c1917"),
        ("#8dc2fb", "#1c1917"), ("#84bdfa", "#1c1917"), ("#7bb8f9", "#1c1917"), ("#72b3f9", "#1c1917"),
        ("#69aef8", "#1c1917"), ("#5fa9f7", "#1c1917"), ("#55a4f6", "#1c1917"), ("#4a9ff5", "#1c1917"),
    ),
    "dark": (
        ("#1b1c1c", "#e9e4de"), ("#202426", "#e9e4de"), ("#242c30", "#e9e4de"), ("#29343b", "#e9e4de"),
        ("#2d3c46", "#e9e4de"), ("#314450", "#e9e4de"), ("#354d5c", "#e9e4de"), ("#3a5567", "#e9e4de"),
        ("#3e5e73", "#e9e4de"), ("#42677f", "#e9e4de"), ("#46708b", "#ffffff"), ("#4b7997", "#ffffff"),
        ("#4f82a3", "#000000"), ("#538cb0", "#000000"), ("#5795bd", "#000000"), ("#5b9fca", "#000000"),
        ("#5fa8d7", "#000000"), ("#64b2e4", "#000000"), ("#68bcf1", "#000000"), ("#6cc6ff", "#000000"),
    ),
}  # fmt: skip

#: The same for 256 colours.
XTERM_AGAINST: dict[Background, tuple[tuple[int, int] | None, ...]] = {
    "light": (
        None, None, None, None, (195, 16),
        (195, 16), (195, 16), (195, 16), (153, 16), (153, 16),
        (153, 16), (153, 16), (117, 16), (117, 16), (117, 16),
        (117, 16), (75, 16), (75, 16), (75, 16), (75, 16),
    ),
    "dark": (
        None, None, (17, 231), (17, 231), (17, 231),
        (18, 231), (18, 231), (18, 231), (24, 231), (24, 231),
        (24, 231), (31, 16), (31, 16), (31, 16), (74, 16),
        (74, 16), (74, 16), (117, 16), (117, 16), (117, 16),
    ),
}  # fmt: skip
