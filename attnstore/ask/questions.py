"""Questions to a store: find them, describe them, bind their parameters, and answer them in either engine.

A question is a file `<name>.sql` and, for those who work in Polars, `<name>.py` beside it, with the same answer. The
shipped questions are in `queries/`. A user's own folder is read in the same way, and may omit the `.py`. A `.sql` file
is one SELECT over the views `documents`, `tokens`, `totals` and `faithfulness`. It begins with a comment: the question
in one line, then how to read the answer, and its parameters,

    -- @param NAME: TYPE -- what it means                 required
    -- @param NAME: TYPE = DEFAULT -- what it means       `= auto` binds NULL: the meaning says what that does
    --     (continuation lines are indented)

which the SELECT names as `$NAME`. They are bound, never pasted. Every question has `where` (`WHERE`). TYPE is one of

    text, integer, number, boolean      a value
    count                               a whole number, 0 or more
    amount                              a number, 0 or more
    list                                texts: a list, JSON, or separated by commas
    a|b|c                               one of these words
    model_class                         one of the model's classes
    score                               a score of the view `faithfulness`, which has to be measured first
    class                               `prediction` or `label`: all views get a column `class`
    cluster                             `group` or `document`, what counts as independent: `documents` gets a number
                                        `cluster`, one per group (a document without a group is its own)
    reduction, layer                    `tokens` gets a column `attention`, double precision: the layer's values
                                        (or their mean over layers; for a reduction with a value per head, the mean
                                        over heads). Without a layer parameter: `attention_01`, `attention_02`, ...
                                        `totals` gets their sums, and `attention_lift`, `attention_01_lift`, ...
    head                                for a reduction with a value per head, and one layer: `attention` is the value
                                        of the head with that number, counted from 1, or the mean
    signed_reduction                    as `reduction`, or a signed score, such as evidence. That is not attention: do
                                        not divide it by an even share. `$signed` says whether it is one
    heads                               a reduction with a value per head: `tokens` gets `attention_01_01`,
                                        `attention_01_02`, ...: layer, then head; only one layer's if there is a
                                        layer parameter that is not `all`. `totals` gets their sums and lifts,
                                        `documents` their entropies: `attention_01_01_entropy`, ...
    reductions                          a list of reductions; `auto` is all with one value per token. `tokens`
                                        gets every layer of each: `attention:cls_01`, ..., `attention:rollout`
    column                              a column of `documents`, which get its value as a text, `value`
    document                            an id, else a number; `@3` is the number 3 whatever the ids; bound as the number

and a question has at most one parameter of each of the last ten. Another line may name the columns of the answer that
a terminal shows unless asked for all; without it, as many as fit. Texts that are too long are cut at the end, or at
the beginning if the name has a `…`. Another line says what some document must have for the question to have an answer,
`labels` (classes of the model) or `groups`:

    -- @columns NAME, NAME, …NAME
    -- @needs labels

Another line says how the answers of two stores are compared (`paired`): the columns that identify a row, and the
numbers whose difference is taken, the most important first:

    -- @pair NAME, NAME: NAME, NAME

And another says which rows the false discovery rate of a column `q` covers:

    -- @family the words of a class

In all stores, `tokens` has `segment` and `documents` has `text_pair`. For single texts, `segment` is 0 (null for
special tokens) and `text_pair` is null. Beside its own parameters, a question may use facts of the store:
`$labels_are_models`, `$layers`, `$heads`, `$long`, `$signed`; and `p_value`, `t_quantile` and `q_values` of
`attnstore.ask.statistics`. The `.py` file defines

    answer(tables: Tables, parameters: Mapping[str, Any]) -> pl.LazyFrame

and gets lazy frames with the same columns, and all of these values in `parameters`. Both engines must give the same
table: the same columns and types, and rows in a fully determined order.
"""

import importlib.util
import itertools
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import duckdb
import polars as pl

import attnstore
from attnstore.ask.macros import macros_in
from attnstore.ask.statement import one_line, reading_statement
from attnstore.ask.values import (
    CONVERSIONS,
    Parameter,
    as_text,
    converted,
)
from attnstore.errors import NotFoundError, StoreError, UsageError
from attnstore.messages import suggestion
from attnstore.store.frames import Tables

Engine = Literal["duckdb", "polars"]
Twin = Callable[[Tables, Mapping[str, Any]], pl.LazyFrame]

_PACKAGE = Path(attnstore.__file__).parent
#: Inside the package in an installed wheel, beside it in a checkout and an editable install.
_SHIPPED = (_PACKAGE / "queries", _PACKAGE.parent / "queries")

ONCE = (
    "class",
    "cluster",
    "reduction",
    "signed_reduction",
    "layer",
    "head",
    "heads",
    "reductions",
    "column",
    "document",
)
#: The parameter of every question: a condition over `documents`; the others are as if not there.
WHERE = "where"
#: What every question may use beside its own parameters: facts of the store, and whether the score is signed.
FACTS = ("labels_are_models", "layers", "heads", "long", "signed")

#: What a question may require of a store's documents.
NEEDS = ("labels", "groups")

#: The file of the macros that questions share; it is not a question.
SHARED = "shared.sql"

_PARAMETER = re.compile(
    r"@param (?P<name>\w+): (?P<type>[\w|]+)(?P<has> = ?(?P<default>.*?))? -- (?P<meaning>.+)"
)


@dataclass(frozen=True, slots=True)
class Question:
    """A question to a store. `documentation` is its comment as plain text, without the first line, `summary`.

    `columns` are those that a terminal shows, as declared; empty if not declared. `needs`: what some document must
    have, from `NEEDS`. `keys` are the columns that identify a row, and `compared` the numbers whose difference between
    two stores is taken; both are empty if answers can't be paired. `family`: the tests that a `q` covers, in words;
    empty without a `q`. `polars` is the twin, or None; its file is loaded only when it is called.
    """

    name: str
    summary: str
    documentation: str
    parameters: tuple[Parameter, ...]
    columns: tuple[str, ...]
    needs: tuple[str, ...]
    keys: tuple[str, ...]
    compared: tuple[str, ...]
    family: str
    sql: str
    polars: Twin | None
    path: Path

    def parameter(self, name: str) -> Parameter | None:
        """The parameter with that name, or None."""
        return next((p for p in self.parameters if p.name == name), None)


def find_questions(*folders: str | Path) -> dict[str, Question]:
    """All questions by name: the shipped ones, then those of the user's own folders.

    Raises:
        UsageError: a folder does not exist or has no question, two questions have the same name, or a file does not
            have the form that the module describes.
    """
    questions = dict(_shipped_questions(_shipped()))
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder: give one with .sql files in it")
        paths = sorted(folder.glob("*.sql"))
        if not paths:
            raise UsageError(f"{folder} has no .sql file in it: each question is one")
        for path in paths:
            question = _read(path)
            if (other := questions.get(question.name)) is not None:
                raise UsageError(
                    f"{path}: there is a question {question.name} already, {other.path}: rename one"
                )
            questions[question.name] = question
    return questions


@cache
def _shipped_questions(folder: Path) -> Mapping[str, Question]:
    """Read once per process: every open store and every question needs them.

    Their SQL is not parsed here, because that takes longer than an answer: the tests check it.
    """
    paths = sorted(path for path in folder.glob("*.sql") if path.name != SHARED)
    return {path.stem: _read(path, checked=True) for path in paths}


def _shipped() -> Path:
    shipped = next((folder for folder in _SHIPPED if folder.is_dir()), None)
    if shipped is None:
        raise StoreError("attnstore's own questions are missing: install attnstore again")
    return shipped


def shared_macros() -> Mapping[str, str]:
    """The macros that the questions' SQL shares, by name: the statement that makes each in DuckDB."""
    return macros_in(_shipped() / SHARED)


def asked_statement(sql: str) -> duckdb.Statement:
    """The one SELECT of a question, which may call the shared macros. Raises UsageError as `reading_statement` does."""
    return reading_statement(sql, frozenset(shared_macros()))


def get_question(name: str, questions: Mapping[str, Question]) -> Question:
    """The question with that name.

    Raises:
        NotFoundError: there is none; the message names the closest.
    """
    if name not in questions:
        raise NotFoundError(f"there is no question {name!r}{suggestion(name, questions)}")
    return questions[name]


def describe(question: Question, width: int = 100) -> str:
    """A question's documentation and parameters as text, wrapped to `width` columns where words allow."""
    lines = [question.name, "", *textwrap.wrap(question.summary, width), ""]
    if question.documentation:
        lines += [*_filled(question.documentation, width), ""]
    if not question.parameters:
        lines += ["It has no parameters."]
    else:
        lines += ["Parameters:"]
        for p in question.parameters:
            lines += textwrap.wrap(signature(p), width, initial_indent="  ", subsequent_indent="    ")
            lines += textwrap.wrap(p.meaning, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    where = "And where: a condition over documents in SQL, such as length > 100; the others are left out."
    lines += ["", *textwrap.wrap(where, width)]
    lines += ["", f"Engines: {'duckdb, polars' if question.polars else 'duckdb'}"]
    return "\n".join(lines)


def _indent(line: str) -> str | None:
    """A line's indentation; None for an empty line."""
    return line[: len(line) - len(line.lstrip())] if line else None


def _filled(prose: str, width: int) -> list[str]:
    """Lines of `width` columns. Indented lines, such as an example's row, stay as they are if they fit."""
    lines: list[str] = []
    for indent, block in itertools.groupby(prose.splitlines(), _indent):
        whole = list(block)
        if indent is not None and (not indent or max(map(len, whole)) > width):
            words = textwrap.TextWrapper(
                width, indent, indent, break_long_words=False, break_on_hyphens=False
            )
            whole = words.wrap(" ".join(map(str.strip, whole)))
        lines += whole
    return lines


def signature(p: Parameter) -> str:
    """A parameter's name, its type or choices, and its default as a user would type it."""
    default = "required" if p.required else f"default {as_text(p.default) or 'none'}"
    return f"{p.name}: {'|'.join(p.choices) or p.type}, {default}"


def _read(path: Path, checked: bool = False) -> Question:
    """The question in a file. `checked`: its SQL is known to be a valid SELECT. Raises UsageError."""
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"can't read {path}: it is no file")  # reading a pipe would wait
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"can't read {path}: {error}") from error
    comment: list[str] = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        comment.append(line[2:].removeprefix(" ").rstrip())
    if not comment or not comment[0] or comment[0].startswith("@"):
        raise UsageError(f"{path} has to begin with a comment, its first line the question")
    prose, declarations = _split_comment(comment[1:])
    shown = [line for line in declarations if line.startswith("@columns")]
    needed = [line for line in declarations if line.startswith("@needs")]
    paired = [line for line in declarations if line.startswith("@pair ")]
    families = [line for line in declarations if line.startswith("@family ")]
    others = [*shown, *needed, *paired, *families]
    parameters = tuple(_declared(line, path) for line in declarations if line not in others)
    if len(families) > 1:
        raise UsageError(f"{path}: the family is declared twice")
    keys, compared = _pair(paired, path)
    _check_names(parameters, path)
    if not checked:
        _check_sql(text, parameters, path)
    module = path.with_suffix(".py")
    return Question(
        name=path.stem,
        summary=comment[0],
        documentation=prose,
        parameters=parameters,
        columns=_columns(shown, path),
        needs=_needs(needed, path),
        keys=keys,
        compared=compared,
        family="".join(line.removeprefix("@family ").strip() for line in families),
        sql=text,
        polars=_twin(module) if module.exists() else None,
        path=path,
    )


def _split_comment(lines: Sequence[str]) -> tuple[str, list[str]]:
    """The prose of a comment, and its declarations, such as `@param` and `@columns`, one line each."""
    prose: list[str] = []
    declarations: list[str] = []
    inside = False
    for line in lines:
        if line.startswith(("@param", "@columns", "@needs", "@pair ", "@family ")):
            declarations.append(line)
            inside = True
        elif inside and line.startswith(" "):
            declarations[-1] += " " + line.strip()
        else:
            inside = False
            prose.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(prose)).strip(), declarations


def _columns(declarations: Sequence[str], path: Path) -> tuple[str, ...]:
    """The columns that a terminal shows, from the lines that declare them: none or one."""
    if len(declarations) > 1:
        raise UsageError(f"{path}: the columns are declared twice")
    names = [name.strip() for line in declarations for name in line.removeprefix("@columns").split(",")]
    if not all(name.strip("…") for name in names):
        raise UsageError(f"{path}: {declarations[0]!r} is not `@columns NAME, NAME, …NAME`")
    return tuple(names)


def _needs(declarations: Sequence[str], path: Path) -> tuple[str, ...]:
    """What some document must have, from the lines that say so."""
    names = tuple(name.strip() for line in declarations for name in line.removeprefix("@needs").split(","))
    if unknown := [name for name in names if name not in NEEDS]:
        raise UsageError(f"{path}: @needs {unknown[0]}: it is one of {', '.join(NEEDS)}")
    return names


def _pair(declarations: Sequence[str], path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns that identify a row, and those that are compared, from the lines that declare them: none or one."""
    if not declarations:
        return (), ()
    if len(declarations) > 1:
        raise UsageError(f"{path}: the pair is declared twice")
    keys, _, compared = declarations[0].removeprefix("@pair ").partition(":")
    names = [[name.strip() for name in part.split(",")] for part in (keys, compared)]
    if not all(map(all, names)) or len({*names[0], *names[1]}) < len(names[0]) + len(names[1]):
        raise UsageError(f"{path}: {declarations[0]!r} is not `@pair NAME, NAME: NAME, NAME`")
    return tuple(names[0]), tuple(names[1])


def _declared(declaration: str, path: Path) -> Parameter:
    match = _PARAMETER.fullmatch(declaration)
    if match is None:
        raise UsageError(
            f"{path}: {declaration!r} is not `@param NAME: TYPE -- meaning` or `@param NAME: TYPE = DEFAULT -- meaning`"
        )
    type_, meaning = match["type"], match["meaning"]
    choices: tuple[str, ...] = ()
    if "|" in type_:
        type_, choices = "text", tuple(type_.split("|"))
    elif type_ == "class":
        choices = ("prediction", "label")
    elif type_ == "cluster":
        choices = ("group", "document")
    elif type_ not in CONVERSIONS:
        raise UsageError(
            f"{path}: {match['name']} has the unknown type {type_!r}{suggestion(type_, CONVERSIONS)}"
        )
    parameter = Parameter(match["name"], type_, None, meaning, choices, required=match["has"] is None)
    if parameter.required or match["default"].strip() == "auto":
        return parameter
    try:
        default = converted(parameter, match["default"].strip())
    except UsageError as error:
        raise UsageError(f"{path}: the default does not fit: {error}") from error
    return Parameter(parameter.name, type_, default, meaning, choices)


def _check_names(parameters: Sequence[Parameter], path: Path) -> None:
    names = Counter(p.name for p in parameters)
    if twice := [name for name, n in names.items() if n > 1]:
        raise UsageError(f"{path}: the parameter {twice[0]} is declared twice")
    if WHERE in names:
        raise UsageError(f"{path}: every question has a parameter {WHERE} already: give it another name")
    if taken := [name for name in names if name in FACTS]:
        raise UsageError(
            f"{path}: ${taken[0]} is what the store says of itself: give the parameter another name"
        )
    types = Counter(p.type for p in parameters)
    if twice := [type_ for type_ in ONCE if types[type_] > 1]:
        raise UsageError(f"{path}: a question has at most one parameter of type {twice[0]}")
    chosen = [type_ for type_ in ("reduction", "signed_reduction", "reductions", "heads") if types[type_]]
    if len(chosen) > 1 and chosen != ["reductions", "heads"]:
        raise UsageError(
            f"{path}: a question has a parameter of type {chosen[0]}, or of type {chosen[1]}, not both"
        )
    if types["layer"] and not types["reduction"] and not types["signed_reduction"] and not types["heads"]:
        raise UsageError(
            f"{path}: a layer parameter needs a parameter of type reduction, signed_reduction or heads"
        )

    if types["head"] and not (types["layer"] and (types["reduction"] or types["signed_reduction"])):
        raise UsageError(
            f"{path}: a head parameter needs one of type layer, and one of type reduction or signed_reduction"
        )


def _check_sql(text: str, parameters: Sequence[Parameter], path: Path) -> None:
    """Check that it is one SELECT in which every `$name` is known."""
    try:
        statement = asked_statement(text)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    known = [*(p.name for p in parameters), *FACTS]
    if unknown := sorted(set(statement.named_parameters) - set(known)):
        raise UsageError(f"{path}: ${unknown[0]} is not declared{suggestion(unknown[0], known)}")


def _twin(path: Path) -> Twin:
    """The function `answer` of a file. The file is loaded at the first call."""

    def twin(tables: Tables, parameters: Mapping[str, Any]) -> pl.LazyFrame:
        spec = importlib.util.spec_from_file_location(f"attnstore.queries.{path.stem}", path)
        if spec is None or spec.loader is None:
            raise UsageError(f"{path} can't be loaded as a Python file")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            answer: Twin = module.answer
        except Exception as error:  # a user's own file may raise anything
            raise UsageError(f"{path} can't be loaded: {one_line(error)}") from error
        return answer(tables, parameters)

    return twin
