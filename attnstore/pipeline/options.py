"""A run's settings as the options of `attnstore run`, by their names without dashes."""

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from attnstore.config import RunConfig, SourceConfig
from attnstore.data.remote import without_secrets
from attnstore.embedded import MODEL, REVIEWS

#: Fields whose names differ from their options.
_NAMES = {"keep": "keep-column", "reductions": "reduce"}
_NO_OPTIONS = ("held", "source")


def options_of(config: RunConfig, settled: Mapping[str, Any]) -> dict[str, Any]:
    """The options that reproduce the run, without those that are not set.

    `settled`: fields of `config` that the run decided itself. The embedded model and reviews have no name; an address
    is kept without possible secrets.
    """
    held = {f.name: getattr(config.source, f.name) for f in fields(SourceConfig)}
    held |= {f.name: getattr(config, f.name) for f in fields(RunConfig)} | dict(settled)
    if "://" in config.source.data:
        held["data"] = without_secrets(config.source.data)
    if config.source.data == str(REVIEWS):
        del held["data"]
    if config.model == str(MODEL):
        del held["model"]
    return {
        _NAMES.get(name, name.replace("_", "-")): _as_option(name, value)
        for name, value in held.items()
        if name not in _NO_OPTIONS and value is not None and value != ()
    }


def _as_option(name: str, value: Any) -> Any:
    if name == "delimiter":
        return "tab" if value == "\t" else value
    if name == "columns":
        return ",".join(value)
    if name == "labels":  # a label may contain a comma
        line = io.StringIO()
        spaced = any(each != each.strip() for each in value)
        csv.writer(line, lineterminator="", quoting=csv.QUOTE_ALL if spaced else csv.QUOTE_MINIMAL).writerow(
            value
        )
        return line.getvalue()
    if isinstance(value, tuple):
        return [_name_of(each) for each in value]
    return value


def _name_of(reduction: str | Callable[..., Any]) -> str:
    """A reduction's name; for a function, the name that `--reduce` accepts if it can be imported."""
    if isinstance(reduction, str):
        return reduction
    return f"{reduction.__module__}:{getattr(reduction, '__qualname__', type(reduction).__qualname__)}"
