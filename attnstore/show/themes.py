"""The look of charts, on light and on dark paper: Vega-Lite's `config`, and the colours of classes.

The first two classes have blue and vermillion of Okabe and Ito 2008, "Color Universal Design". A search found the next
four, as far as possible from these and each other for all kinds of colour vision: `tests/show/test_themes.py` measures
that.
"""

from typing import Any

from attnstore.show.colours import PAGE, SHADES, Background

#: A colour per class, in the order of the model's classes; further classes start over.
CLASSES: dict[Background, tuple[str, ...]] = {
    "light": ("#0072b2", "#d55e00", "#6c986b", "#9b3972", "#665927", "#0099f2", "#7a5cc4", "#57514b"),
    "dark": ("#4aa3df", "#f07c3e", "#1af7af", "#ab6681", "#fec500", "#bec6ff", "#9a7bea", "#a39b92"),
}

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', Arial, sans-serif"


def theme(background: Background, font: str = _FONT) -> dict[str, Any]:
    """Vega-Lite's `config` for a chart on that paper."""
    page = PAGE[background]
    paper, ink, faint, rule = page["paper"], page["ink"], page["faint"], page["rule"]
    classes = CLASSES[background]
    ramp = [shade for shade, _ in SHADES[background][1::3]] + [SHADES[background][-1][0]]
    text = {"labelColor": faint, "titleColor": ink, "titleFontWeight": "normal", "titleFontSize": 11}
    return {
        "background": paper,
        "font": font,
        "range": {
            "category": list(classes),
            "ramp": ramp,
            "heatmap": ramp,
            "diverging": [classes[0], paper, SHADES[background][-1][0]],
        },
        # Names at the edge are not cut off, even if a reader's font is wider than the measured one.
        "padding": {"left": 28, "right": 28, "top": 12, "bottom": 12},
        "view": {"stroke": None},
        "axis": {
            **text, "domainColor": rule, "tickColor": rule, "gridColor": rule, "gridOpacity": 0.6,
            "labelLimit": 180, "labelFontSize": 11, "labelSeparation": 10,
        },
        # Keep names away from a line at the edge of the view, such as the line at 0.
        "axisBand": {"grid": False, "domain": False, "ticks": False, "labelPadding": 7},
        "axisXDiscrete": {"labelAngle": 0},
        "header": {
            "labelColor": ink, "labelFontWeight": "bold", "labelFontSize": 12, "labelLimit": 320,
            "titleColor": faint, "titleFontWeight": "normal",
        },
        # A gradient of fixed length: Vega-Lite 6.4 draws nothing if its length is the height of a facet's views.
        "legend": {**text, "labelLimit": 180, "symbolOpacity": 1, "gradientLength": 140},
        "title": {
            "anchor": "start", "color": ink, "fontSize": 15, "fontWeight": "bold", "offset": 14,
            "subtitleColor": faint, "subtitleFontSize": 11, "subtitlePadding": 5,
        },
        "mark": {"color": classes[0], "tooltip": None},
        "rect": {"stroke": paper, "strokeWidth": 1},
        "bar": {"stroke": paper, "strokeWidth": 0.5},
        "rule": {"color": faint},
        "text": {"color": ink},
        "style": {
            "estimate": {"filled": True, "size": 55, "opacity": 1},
            "interval": {"strokeWidth": 2.5, "opacity": 0.45},
            "reference": {"stroke": faint, "color": faint, "strokeDash": [3, 3], "opacity": 0.8},
            "on-bar": {"color": paper, "fill": paper},
        },
    }  # fmt: skip
