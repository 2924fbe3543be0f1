"""The README.md of a store on the Hugging Face hub: which files belong to which table, and what they contain."""

import html
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import yaml

import attnstore
from attnstore.ask.answer import ask
from attnstore.ask.questions import find_questions, get_question
from attnstore.messages import counted
from attnstore.store.store import Store
from attnstore.visible import visible_line

#: How many words of each class the card shows.
_WORDS = 10
#: The hub's size categories for data sets, by rows.
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)


def dataset_card(store: Store, name: str, license_: str | None = None, report: str | None = None) -> str:
    """The card of an exported store: a header for the hub and `datasets`, then text for people.

    `name` is the title, and what a reader writes to load it. `license_` is the hub's identifier of a licence, None to
    name none. `report` is the name of the page beside it, if any.
    """
    head: dict[str, Any] = {
        "pretty_name": name,
        **({"license": license_} if license_ else {}),
        "tags": ["attnstore", "attention", "interpretability"],
        "task_categories": ["text-classification"],
        "size_categories": [next((s for n, s in _SIZES if store.manifest.documents < n), "n>100M")],
        "configs": list(_configurations(store)),
    }
    written = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    return f"---\n{written}---\n\n" + "\n\n".join(_body(store, name, license_, report)) + "\n"


def _configurations(store: Store) -> Iterator[dict[str, Any]]:
    """Which files belong to which table and split.

    A split's name there has only letters, digits and _, and `all` means all splits together.
    """
    read = (file.path.removeprefix("_merged/") for file in store.files_to_read("documents"))
    folders = sorted({path.split("/")[1] for path in read})
    splits: dict[str, str] = {}
    for folder in folders:
        plain = re.sub(r"\W+", "_", unquote(folder.removeprefix("split="))).strip("_") or "split"
        if plain.lower() == "all":
            plain = "all_documents"
        free = next(n for n in _numbered(plain) if n not in splits)
        splits[free] = folder
    for table in ("documents", "tokens"):
        files = [{"split": split, "path": f"{table}/{folder}/*.parquet"} for split, folder in splits.items()]
        yield {
            "config_name": table,
            **({"default": True} if table == "documents" else {}),
            "data_files": files,
        }
    yield {"config_name": "totals", "data_files": [{"split": "totals", "path": "totals.parquet"}]}


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1


def _body(store: Store, name: str, license_: str | None, report: str | None) -> Iterator[str]:
    manifest = store.manifest
    yield f"# {_plain(name)}"
    yield (
        f"What a text classifier looks at: {counted(manifest.documents, 'document')}, their tokens, and the attention"
        f" on each token, computed by [attnstore](https://pypi.org/project/attnstore/) {attnstore.__version__}."
        " What a model attends to does not by itself explain its decisions."
    )
    yield _table(("", ""), _facts(store))
    if report:
        yield f"[{report}]({report}) is a report on the whole store; download it and open it in a browser."
    yield "## Usage"
    loaded, place = json.dumps(name), json.dumps(f"hf://datasets/{name}" if "/" in name else name)
    yield (
        "```python\nimport datasets\n\n"
        f'documents = datasets.load_dataset({loaded}, "documents")\n'
        f'tokens = datasets.load_dataset({loaded}, "tokens")\n'
        f'words = datasets.load_dataset({loaded}, "totals")\n\n'
        "import attnstore\n\n"
        f"store = attnstore.open({place})\nstore.query.top_words_by_class()\n```"
    )
    if words := _words(store):
        yield "## Most attended words"
        yield _table(("predicted class", "words"), words)
    for table, schema in (
        ("documents", store.documents_schema),
        ("tokens", store.tokens_schema),
        ("totals", store.totals_schema),
    ):
        yield f"## {table}"
        rows = ((f"`{field.name}`", str(_type(field.type)), _plain(_meaning(field))) for field in schema)
        yield _table(("column", "type", ""), rows)
    yield "## Licence"
    yield (
        f"{_plain(license_) if license_ else 'No licence is given here.'} The terms of the data and of the model also"
        " apply to this data set, which quotes texts in full."
    )


def _facts(store: Store) -> Iterator[tuple[str, str]]:
    manifest = store.manifest
    whole = ask(store, get_question("predictions", find_questions()), {}).to_pylist()[0]
    yield "model", _plain(manifest.model)
    yield "data", _plain(manifest.data)
    yield "classes", _plain(", ".join(manifest.labels))
    yield "documents", f"{manifest.documents:,}"
    yield "tokens", f"{store.rows('tokens'):,}, at most {manifest.max_length:,} per document"
    if whole["accuracy"] is not None:
        yield "accuracy", f"{whole['accuracy']:.5f} ({whole['correct']:,} of {whole['labelled']:,})"
    for reduction in manifest.reductions:
        yield f"`{reduction.name}`", _plain(reduction.meaning)
    dtype, values = (manifest.fingerprint.get(key, "unknown") for key in ("dtype", "values"))
    yield "values", _plain(f"computed in {dtype}, stored as {values}")
    for what, key in (("model's SHA-256", "model_sha256"), ("data's SHA-256", "data_sha256")):
        if key in manifest.fingerprint:
            yield what, f"`{_plain(str(manifest.fingerprint[key]))}`"


def _words(store: Store) -> list[tuple[str, str]]:
    """(class, its words) for the first reduction that is attention."""
    name = next((r.name for r in store.manifest.reductions if not r.signed), None)
    if name is None:
        return []
    asked = {"reduction": name, "limit": _WORDS, "intervals": False}
    rows = ask(store, get_question("top_words_by_class", find_questions()), asked).to_pylist()
    classes = dict.fromkeys(row["class"] for row in rows)
    return [(_plain(c), ", ".join(_plain(r["word"]) for r in rows if r["class"] == c)) for c in classes]


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _type(type_: Any) -> Any:
    return getattr(type_, "value_type", type_) if str(type_).startswith("dictionary") else type_


def _meaning(field: Any) -> str:
    return str((field.metadata or {}).get(b"meaning", b"").decode())


def _plain(text: str) -> str:
    """A text in Markdown, shown as it is on one line: untrusted mark-up has no effect."""
    escaped = re.sub(r"([\\`*_{}\[\]|~#!-])", r"\\\1", visible_line(text))
    return html.escape(escaped, quote=False)
