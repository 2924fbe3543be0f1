"""`--config FILE`: a command's options from a TOML file, `limit = 100` for `--limit 100`."""

import tomllib
from pathlib import Path
from typing import Any

import click

from attnstore.errors import UsageError
from attnstore.messages import one_line, quoted, similar

_LARGEST = 1 << 20  # bytes; no command needs more

#: The required type of a value, by the type that click gives an option, and its name in messages.
_KINDS: dict[type[click.ParamType[Any]], tuple[tuple[type, ...], str]] = {
    click.types.IntParamType: ((int,), "a whole number"),
    click.types.FloatParamType: ((int, float), "a number"),
    click.types.BoolParamType: ((bool,), "true or false"),
}
_TEXT = (str,), "text in quotes"


def read(context: click.Context, _option: click.Parameter, path: Path | None) -> None:
    """Make the file's options this command's defaults, so that typed options take precedence.

    Raises:
        UsageError: it is not TOML, or it has an unknown option, or an invalid value.
    """
    if path is None:
        return
    if path.exists() and not path.is_file():
        raise UsageError(
            f"{path} is not an option file: it is {'a folder' if path.is_dir() else 'not a regular file'}"
        )
    with path.open("rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise UsageError(f"{path} is not an option file: it has more than {_LARGEST:,} bytes")
    try:
        found = tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not TOML: it is not UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {one_line(error)}") from error
    known = _by_name(context.command)
    context.default_map = {
        _option_of(context, path, name, known).name: _value(context, path, name, known[name], value)
        for name, value in found.items()
    }


def _by_name(command: click.Command) -> dict[str, click.Option]:
    """The options of a command that a file may have, by name without dashes."""
    options = [each for each in command.params if isinstance(each, click.Option)]
    return {_name(each): each for each in options if _name(each) != "config"}


def _name(option: click.Option) -> str:
    return max(option.opts, key=len).removeprefix("--")


def _option_of(context: click.Context, path: Path, name: str, known: dict[str, click.Option]) -> click.Option:
    if name in known:
        return known[name]
    if name in {each.name for each in context.command.params if isinstance(each, click.Argument)}:
        raise UsageError(f"{path}: {name.upper()} belongs on the command line, not in an option file")
    if name == "config":
        raise UsageError(
            f"{path}: an option file can't name another one; for a data set's configuration use subset"
        )
    advice = similar(name, known) or f" (see {context.command_path} --help)"
    raise UsageError(f"{path}: {quoted(name)} is not an option of {context.command_path}{advice}")


def _value(context: click.Context, path: Path, name: str, option: click.Option, value: Any) -> Any:
    """A value in click's form for defaults, checked because click accepts nearly everything as a text or a flag."""
    kinds, meant = next((kind for type_, kind in _KINDS.items() if isinstance(option.type, type_)), _TEXT)
    several = option.multiple and isinstance(value, list)
    for each in value if several else [value]:
        # In Python, bool is an int; users do not expect that.
        if not isinstance(each, kinds) or (isinstance(each, bool) and bool not in kinds):
            or_list = ", or a list of these in [ ]" if option.multiple else ""
            raise UsageError(f"{path}: {name} is {_shown(each)}: it must be {meant}{or_list}")
    default = value if several or not option.multiple else [value]
    try:
        option.type_cast_value(context, default)
    except click.BadParameter as error:
        raise UsageError(f"{path}: {name}: {error.message}") from error
    return default


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return quoted(value) if isinstance(value, str) else one_line(value)
