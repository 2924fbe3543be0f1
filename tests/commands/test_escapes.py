"""No command sends control characters of untrusted text to a terminal: each is made visible."""

import io
import json
import re
import unicodedata
from contextlib import redirect_stdout
from pathlib import Path

import pyarrow as pa
import pytest
import tiny
from command_line import attnstore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_store import document_rows, manifest

from attnstore.commands import output
from attnstore.errors import StoreError
from attnstore.store.manifest import StoredReduction
from attnstore.store.resume import create_or_resume
from attnstore.store.schema import documents_schema, tokens_schema
from attnstore.visible import visible, visible_json

#: Colours, a title, a link, a bell, an erased line, the single character for ESC [, right-to-left writing, a line that
#: is overwritten, a backspace.
ACTING = [
    "\x1b[31m",
    "\x1b]0;owned\x07",
    "\x1b]8;;http://x\x1b\\",
    "\a",
    "\x1b[2K",
    "\x9b7m",
    "\u202e",
    "\r",
    "\b",
    "\x7f",
]
STRANGE = st.lists(st.sampled_from([*ACTING, "a", "né", " "]), min_size=1, max_size=4).map("".join)


def acting(text: str) -> list[str]:
    """The characters of an output that control a terminal. New lines and the joiners in emoji do not."""
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return [c for c in text if unicodedata.category(c) in kinds and c not in "\n\u200c\u200d"]


def harmless(*arguments, **options) -> tuple[int, str]:
    """Run a command, assert that its output controls no terminal, and return its exit status and output."""
    code, out, err = attnstore(*arguments, **options)
    assert acting(out + err) == [], (arguments, out, err)
    assert "Traceback" not in err
    return code, out + err


def strange_store(folder: Path, word: str) -> Path:
    """A store with `word` in every place where a stranger could write."""
    odd = f"odd{word}"
    plan = manifest(
        fingerprint={f"key{word}": word, "split": word, "dtype": word, "values": word},
        documents=4,
        labels=(f"neg{word}", f"pos{word}"),
        reductions=(*manifest().reductions[:2], StoredReduction(odd, False, False, f"meaning {word}", None)),
        model=f"model {word}",
        data=f"data {word}",
        versions={f"library{word}": word},
        rejected={f"reason {word}": 3},
        rejected_rows=(f"row {word}",),
        notes=(f"note {word}",),
        runs=({"ended": word, "parts": 1, "tokens": 2, "tokens_per_second": 3, "device": word, "way": word,
               "kernel": word},),
        labels_are_models=False,
    )  # fmt: skip
    documents, tokens = [], []
    for number in range(4):
        document, its_tokens = document_rows(number, (f"neg{word}", f"x{word}", None), f"test{word}")
        for row in (document, *its_tokens):
            texts = [name for name in ("id", "text", "token", "word", "prediction") if row.get(name)]
            row |= {name: row[name] + word for name in texts}
            row |= {name.replace("odd", odd): row[name] for name in ("odd", "odd_entropy") if name in row}
        documents.append(document)
        tokens += its_tokens
    keys = [pa.field("split", pa.string()), pa.field("label", pa.string())]
    path = folder / f"store{word}".replace("/", "").replace("\\", "")
    with create_or_resume(path, plan) as store:
        store.write_part(
            0,
            pa.Table.from_pylist(documents, pa.schema([*documents_schema(plan), *keys])),
            pa.Table.from_pylist(tokens, pa.schema([*tokens_schema(plan), *keys])),
        )
        store.seal()
    return path


#: A command about a store, and its exit status. Each prints something that the stranger wrote.
ASKED = [
    (0, "info"),
    (0, "info", "--format", "json"),
    (0, "sql", "SELECT * FROM documents"),
    (0, "sql", "FROM tokens", "--format", "json"),
    (0, "sql", "FROM tokens SELECT * EXCLUDE(cls_heads_01, cls_heads_02)", "--format", "markdown"),
    (0, "query", "predictions"),
    (0, "query", "confusion", "--engine", "polars"),
    (0, "query", "top_words_by_class", "--format", "markdown"),
    (0, "query", "document_tokens", "-p", "document=@0"),
    (0, "show", "0"),
    (0, "show", "@1", "--words", "sum"),
    (0, "verify", "--sample", "0"),
    (1, "verify"),  # the model does not exist
    (2, "show", "test"),  # "did you mean" an id
    (2, "show", "0", "--reduction", "nothing"),
    (2, "query", "contrast", "-p", "a=nothing", "-p", "b=nothing"),  # the error lists the classes
]


@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(word=STRANGE)
@pytest.mark.slow
def test_no_command_about_a_strangers_store_controls_the_terminal(word: str, tmp_path_factory) -> None:
    """Names of classes, reductions, columns, splits, ids, texts, words, notes, versions, and the store's own name."""
    folder = tmp_path_factory.mktemp("strange")
    path = strange_store(folder, word)
    for status, command, *rest in ASKED:
        assert harmless(command, path, *rest)[0] == status, (command, rest)
    assert harmless("query", path, f"nothing{word}")[0] == 2
    assert harmless("query", path, "predictions", "-p", f"{word}=1")[0] == 2
    assert harmless("sql", path, f"SELECT '{word}' FROM nothing{word}")[0] == 2  # noqa: S608
    assert harmless("sql", path, f'SELECT 1 AS "{word}"')[0] == 0
    (path / "tokens" / f"more{word}.parquet".replace("/", "")).write_bytes(b"")
    assert harmless("verify", path, "--sample", "0")[0] == 1
    lines = (path / "manifest.json").read_text().replace('"layers": 2', json.dumps(word) + ": 2")
    (path / "manifest.json").write_text(lines)
    assert harmless("info", path)[0] == 1
    assert harmless("info", folder / f"no{word}store")[0] in (1, 2)  # 2, because it looks like an address


@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(word=STRANGE)
@pytest.mark.slow
def test_no_strangers_question_controls_the_terminal(word: str, small_store, tmp_path_factory) -> None:
    """Its description, its parameters, and its errors."""
    folder = tmp_path_factory.mktemp("questions")
    said = word.replace("\r", " ").replace("\n", " ")
    (folder / "theirs.sql").write_text(
        f'-- Theirs {said}.\n-- More {said}\nSELECT 1 AS "{word}"\n', newline=""
    )
    assert harmless("queries", "--queries", folder)[0] == 0
    assert harmless("queries", "theirs", "--queries", folder)[0] == 0
    assert harmless("query", small_store, "theirs", "--queries", folder)[0] == 0
    (folder / "theirs.sql").write_text(f"-- Theirs {said}.\n-- :{said} {said}\nSELEC {word}\n", newline="")
    assert harmless("queries", "--queries", folder)[0] == 2


@settings(max_examples=1, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(word=STRANGE)
@pytest.mark.slow
def test_no_run_over_strange_data_controls_the_terminal(word: str, tmp_path_factory) -> None:
    """Names of files, columns, labels and classes, in a run that succeeds and in runs that fail."""
    folder = tmp_path_factory.mktemp("data")
    model = tiny.save(folder / "model", id2label={0: f"neg{word}", 1: f"pos{word}"})
    rows = [
        {"text": f"a good film {word}", f"label{word}": f"{name}{word}"} for name in ("neg", "pos", "odd")
    ]
    data = folder / f"data{word}.jsonl".replace("/", "")
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given_label = ("--label-column", f"label{word}")
    assert harmless(*_run(folder / "one.attn", data, model, *given_label))[0] in (0, 2)
    assert harmless(*_run(folder / "two.attn", data, model, *given_label, "--labels", "neg,pos"))[0] in (0, 2)
    assert harmless(*_run(folder / "three.attn", data, model, "--text-column", f"none{word}"))[0] == 2
    assert harmless(*_run(folder / "four.attn", folder / f"none{word}", model))[0] in (1, 2)
    assert harmless(*_run(folder / "five.attn", data, folder / f"none{word}"))[0] in (1, 2)
    assert harmless("finetune", folder / "out", "--data", data, "--model", f"none{word}/a/b", *given_label)[
        0
    ] in (1, 2)


def _run(store, data, model, *more):
    return ("run", store, "--data", data, "--model", model, "--device", "cpu", *more)


def test_a_pipe_gets_exact_output(monkeypatch) -> None:
    """CSV and SQL are exact in a pipe or a file, and escaped on a terminal."""
    text = "a\x1b[31mb\n"
    for terminal, printed in ((False, text), (True, "a␛[31mb\n")):
        out = io.TextIOWrapper(io.BytesIO(), "utf-8")
        out.isatty = lambda terminal=terminal: terminal
        with redirect_stdout(out):
            output.give(text.encode())
            output.give(text)
        assert out.buffer.getvalue().decode() == printed * 2


@pytest.mark.slow
@given(st.text())
def test_escaped_json_has_the_same_values(text: str) -> None:
    """Escaped characters are read back as they were."""
    written = visible_json(json.dumps({text: text}, ensure_ascii=False))
    assert json.loads(written) == {text: text}
    assert acting(written) == []


def test_an_error_in_python_does_not_control_the_terminal() -> None:
    """A traceback prints the message as it is."""
    error = StoreError("no store \x1b[31m\u202e")
    assert str(error) == visible("no store \x1b[31m\u202e") == "no store ␛[31m⟨U+202E⟩"


def test_all_printing_is_in_one_place() -> None:
    """These tests could miss a command that prints by itself."""
    commands = Path(output.__file__).parent
    by_itself = [
        file.name
        for file in commands.glob("*.py")
        if file.name != "output.py"
        and re.search(r"click\.echo|click\.secho|\bprint\(|(?<!tqdm)\.write\(", file.read_text())
    ]
    assert by_itself == []
