"""The templates in `templates/`, rendered. Every value they print is made visible, then escaped."""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from attnstore.show import captions
from attnstore.show.colours import AGAINST, PAGE, SHADES
from attnstore.visible import visible, visible_line

if TYPE_CHECKING:
    from jinja2 import Environment


def render(name: str, **values: Any) -> str:
    """The template with that name, rendered with these values."""
    return _templates().get_template(name).render(**values)


def prepare(prefix: str) -> None:
    """Compile the templates whose names begin with `prefix`, so that nobody waits for it later."""
    for path in (files("attnstore.show") / "templates").iterdir():
        if path.name.startswith(prefix) and path.name.endswith(".html"):
            _templates().get_template(path.name)


def script(source: str) -> dict[str, Any]:
    """The package's JavaScript for a template: the source as it is, and its digest for the page's security policy.

    A page names the digests of its scripts: nothing else runs in it, whatever untrusted text contains.
    """
    from markupsafe import Markup

    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return {"source": Markup(source), "policy": f"'sha256-{digest}'"}  # noqa: S704 - from the package, not from data


def source(name: str) -> str:
    """A file of `templates/`. Lines and indentation are for readers of the .html; on the page they would be spaces."""
    text = (files("attnstore.show") / "templates" / name).read_text(encoding="utf-8")
    return re.sub(r"\n\s*", "", text) if name.endswith(".html") else text


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FunctionLoader(source),
        autoescape=True,
        undefined=StrictUndefined,
        # Only `tojson` and `script` make Markup: it is safe as it is.
        finalize=lambda value: value if isinstance(value, Markup) else visible(str(value)),
    )
    environment.filters["one_line"] = visible_line
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    environment.globals |= {"captions": captions, "page": PAGE, "shades": SHADES, "against": AGAINST}
    return environment
