"""The options of a store's run as TOML, for `attnstore run NEW --config FILE`."""

from typing import Any

from attnstore.errors import StoreError
from attnstore.messages import counted, one_line
from attnstore.store.store import Store


def settings(store: Store) -> str:
    """The options that reproduce this store from the same files, one per line.

    Raises:
        StoreError: the store does not have them, or has values that no option takes.
    """
    manifest = store.manifest
    if not manifest.options:
        raise StoreError(f"{store.path} does not say with which options it was run")
    hashes = [
        f"{what} {one_line(manifest.fingerprint[name])}"
        for what, name in (("the model", "model_sha256"), ("the data", "data_sha256"))
        if name in manifest.fingerprint
    ]
    lines = [
        "# attnstore run NEW --config FILE, with the name of this file, gives the same store, if it is started in the",
        "# same folder and finds the same files. Their SHA-256 in the store:",
        *(f"# {line}" for line in hashes),
        *(
            f"# Without the {counted(addition.documents, 'document')} of {one_line(addition.data)}, appended later."
            for addition in manifest.additions
        ),
        *(f"{_key(store, name)} = {_toml(store, value)}" for name, value in manifest.options.items()),
    ]
    return "\n".join(lines) + "\n"


def _key(store: Store, name: str) -> str:
    if not name or not set(name) <= set("abcdefghijklmnopqrstuvwxyz-"):
        raise StoreError(f"{store.path}: manifest.json is damaged: there is no option {one_line(name)}")
    return name


def _toml(store: Store, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return f'"{"".join(map(_escaped, value))}"'
    if isinstance(value, list):
        return f"[{', '.join(_toml(store, each) for each in value)}]"
    raise StoreError(f"{store.path}: manifest.json is damaged: {one_line(value)} is no option's value")


def _escaped(character: str) -> str:
    """A character of a quoted text; an invisible one as its number, so that it can't control a terminal."""
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08X}"
