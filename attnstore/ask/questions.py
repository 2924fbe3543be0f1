"""Questions to a store: find them, describe them, bind their parameters, and answer them in either engine.

A question is a file `<name>.sql`, and beside it, for those who work in Polars, `<name>.py` with the same
answer. The shipped ones are in `queries/`; a folder of a user's own is read the same way and may leave the
`.py` out. A `.sql` file is one SELECT over the views `documents`, `tokens` and `totals`. It begins with a comment:
the question in one line, then how to read the answer, and its parameters,

    -- @param NAME: TYPE -- what it means                 required
    -- @param NAME: TYPE = DEFAULT -- what it means       `= auto` binds NULL: the text says what that does
    --     (a line that goes on is indented)

which the SELECT names as `$NAME`. They are bound, never pasted. TYPE is one of

    text, integer, number, boolean      a value
    count                               a whole number, 0 or more
    amount                              a number, 0 or more
    list                                texts: a list, JSON, or separated by commas
    a|b|c                               one of these words
    model_class                         one of the model's classes
    class                               `prediction` or `label`: all views get a column `class`
    cluster                             `group` or `document`, what is independent: `documents` gets a number
                                        `cluster`, one a group (a document without a group is its own)
    reduction, layer                    `tokens` gets a column `attention`, double precision: the layer's values
                                        (or their mean over layers; of a reduction with a value a head, the mean
                                        over heads). Without a layer parameter: `attention_01`, `attention_02`, ...
                                        `totals` gets their sums, and `attention_lift`, `attention_01_lift`, ...
    heads                               a reduction that has a value a head: `tokens` gets `attention_01_01`,
                                        `attention_01_02`, ...: layer, then head; of one layer where there is a
                                        layer parameter that is not `all`. `totals` gets their sums and lifts,
                                        `documents` their entropies: `attention_01_01_entropy`, ...
    reductions                          a list of reductions; `auto` is all those of one value a token. `tokens`
                                        gets every layer of each: `attention:cls_01`, ..., `attention:rollout`
    document                            an id, else a number; `@3` is the number 3 whatever the ids; bound as the number

and a question has at most one parameter of each of the last seven. Beside its own parameters it may use what
the store says of itself: `$labels_are_models`, `$layers`, `$heads`; and the functions `p_value`, `t_quantile` and
`q_values` of `attnstore.ask.statistics`. The `.py` file defines

    answer(tables: Tables, parameters: Mapping[str, Any]) -> pl.LazyFrame

and gets lazy frames with the same columns, and all of these values in `parameters`. Both engines must give the
same table: the same columns and types, the rows in an order that leaves nothing open.
"""

import importlib.util
import json
import math
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import duckdb
import polars as pl
import pyarrow as pa

import attnstore
from attnstore.ask import views
from attnstore.ask.views import connect, run_sql
from attnstore.errors import AttnstoreError, StoreError, UsageError
from attnstore.messages import suggestion
from attnstore.store.frames import QuestionColumns, Tables, collect, documents
from attnstore.store.manifest import Manifest, StoredReduction
from attnstore.store.store import Store

__all__ = [
    "BASIS_KEY",
    "Parameter",
    "Question",
    "ask",
    "connect",
    "describe",
    "document_number",
    "document_with_tokens",
    "find_questions",
    "get_question",
    "run_sql",
    "signature",
    "unknown_word",
]

Engine = Literal["duckdb", "polars"]
Twin = Callable[[Tables, Mapping[str, Any]], pl.LazyFrame]

_PACKAGE = Path(attnstore.__file__).parent

#: Inside an installed wheel's package, or beside the package in a checkout and an editable install.
_SHIPPED = (_PACKAGE / "queries", _PACKAGE.parent / "queries")

_ONCE = ("class", "cluster", "reduction", "layer", "heads", "reductions", "document")
#: What every question may use beside its own parameters: facts of the store.
_FACTS = ("labels_are_models", "layers", "heads")
_LAYER_WORDS = ("first", "last", "mean", "all")

_PARAMETER = re.compile(
    r"@param (?P<name>\w+): (?P<type>[\w|]+)(?P<has> = ?(?P<default>.*?))? -- (?P<meaning>.+)"
)

#: The metadata key of an answer that says in one line what it is based on.
BASIS_KEY = b"attnstore.basis"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a question. `type` is a word of the module's list; one of words has type `text`.

    `default` is the value that is bound when none is given; None stands for `auto`, or for nothing if the
    parameter is `required`. `choices` is empty where any value of the type will do.
    """

    name: str
    type: str
    default: object
    meaning: str
    choices: tuple[str, ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A question to a store. `documentation` is its comment as plain text, less the first line, `summary`.

    `polars` is the twin, None where there is none; its file is only loaded when it is called.
    """

    name: str
    summary: str
    documentation: str
    parameters: tuple[Parameter, ...]
    sql: str
    polars: Twin | None
    path: Path

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name, or None."""
        return next((p for p in self.parameters if p.name == name), None)


# ---------------------------------------------------------------------------------------------------------
# Finding and describing
# ---------------------------------------------------------------------------------------------------------


def find_questions(*folders: str | Path) -> dict[str, Question]:
    """All questions by name: the shipped ones, then those of the user's own folders.

    Raises:
        UsageError: a folder does not exist or has no question, two questions have the same name, or a file is
            not of the form that the module describes.
    """
    shipped = next((folder for folder in _SHIPPED if folder.is_dir()), None)
    if shipped is None:
        raise StoreError("attnstore's own questions are missing: install attnstore again")
    questions: dict[str, Question] = {}
    for folder in (shipped, *map(Path, folders)):
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


def get_question(name: str, questions: Mapping[str, Question]) -> Question:
    """The question of that name.

    Raises:
        UsageError: there is none; the closest names are told.
    """
    if name not in questions:
        raise UsageError(f"there is no question {name!r}{suggestion(name, questions)}")
    return questions[name]


def describe(question: Question) -> str:
    """A question's documentation and parameters as text for a terminal, 100 columns wide."""
    lines = [question.name, "", question.summary, ""]
    if question.documentation:
        lines += [question.documentation, ""]
    if not question.parameters:
        lines += ["It has no parameters."]
    else:
        lines += ["Parameters:"]
        for p in question.parameters:
            lines += [f"  {signature(p)}"]
            lines += textwrap.wrap(p.meaning, 94, initial_indent=" " * 6, subsequent_indent=" " * 6)
    lines += ["", f"Engines: {'duckdb, polars' if question.polars else 'duckdb'}"]
    return "\n".join(lines)


def signature(p: Parameter) -> str:
    """A parameter's name, what it takes, and its default as a user would type it."""
    default = "required" if p.required else f"default {_as_text(p.default) or 'none'}"
    return f"{p.name}: {'|'.join(p.choices) or p.type}, {default}"


def _as_text(value: object) -> str:
    """A bound value as a user would type it."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)


def _read(path: Path) -> Question:
    try:
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
    parameters = tuple(_declared(declaration, path) for declaration in declarations)
    _check_names(parameters, path)
    _check_sql(text, parameters, path)
    module = path.with_suffix(".py")
    return Question(
        name=path.stem,
        summary=comment[0],
        documentation=prose,
        parameters=parameters,
        sql=text,
        polars=_twin(module) if module.exists() else None,
        path=path,
    )


def _split_comment(lines: Sequence[str]) -> tuple[str, list[str]]:
    """The prose of a comment, and its `@param` declarations, each put into one line."""
    prose: list[str] = []
    declarations: list[str] = []
    inside = False
    for line in lines:
        if line.startswith("@param"):
            declarations.append(line)
            inside = True
        elif inside and line.startswith(" "):
            declarations[-1] += " " + line.strip()
        else:
            inside = False
            prose.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(prose)).strip(), declarations


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
    elif type_ not in _CONVERSIONS:
        raise UsageError(
            f"{path}: {match['name']} has the unknown type {type_!r}{suggestion(type_, _CONVERSIONS)}"
        )
    parameter = Parameter(match["name"], type_, None, meaning, choices, required=match["has"] is None)
    if parameter.required or match["default"].strip() == "auto":
        return parameter
    try:
        default = _converted(parameter, match["default"].strip())
    except UsageError as error:
        raise UsageError(f"{path}: the default does not fit: {error}") from error
    return Parameter(parameter.name, type_, default, meaning, choices)


def _check_names(parameters: Sequence[Parameter], path: Path) -> None:
    names = Counter(p.name for p in parameters)
    if twice := [name for name, n in names.items() if n > 1]:
        raise UsageError(f"{path}: the parameter {twice[0]} is declared twice")
    if taken := [name for name in names if name in _FACTS]:
        raise UsageError(
            f"{path}: ${taken[0]} is what the store says of itself: give the parameter another name"
        )
    types = Counter(p.type for p in parameters)
    if twice := [type_ for type_ in _ONCE if types[type_] > 1]:
        raise UsageError(f"{path}: a question has at most one parameter of type {twice[0]}")
    if types["reduction"] and types["reductions"]:
        raise UsageError(
            f"{path}: a question has a parameter of type reduction, or of type reductions, not both"
        )
    if types["layer"] and not types["reduction"] and not types["heads"]:
        raise UsageError(f"{path}: a layer parameter needs a parameter of type reduction or heads")
    if types["reduction"] and types["heads"]:
        raise UsageError(f"{path}: a question has a parameter of type reduction, or of type heads, not both")


def _check_sql(text: str, parameters: Sequence[Parameter], path: Path) -> None:
    """One SELECT, in which every `$name` is known."""
    try:
        statement = views.reading_statement(text)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    known = [*(p.name for p in parameters), *_FACTS]
    if unknown := sorted(set(statement.named_parameters) - set(known)):
        raise UsageError(f"{path}: ${unknown[0]} is not declared{suggestion(unknown[0], known)}")


def _twin(path: Path) -> Twin:
    """The function `answer` of a file, which is loaded at the first call."""

    def twin(tables: Tables, parameters: Mapping[str, Any]) -> pl.LazyFrame:
        spec = importlib.util.spec_from_file_location(f"attnstore.queries.{path.stem}", path)
        if spec is None or spec.loader is None:
            raise UsageError(f"{path} can't be loaded as a Python file")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            answer: Twin = module.answer
        except Exception as error:  # whatever a user's own file may raise
            raise UsageError(f"{path} can't be loaded: {views.one_line(error)}") from error
        return answer(tables, parameters)

    return twin


# ---------------------------------------------------------------------------------------------------------
# Binding
# ---------------------------------------------------------------------------------------------------------


def _bound(
    store: Store, question: Question, given: Mapping[str, object]
) -> tuple[dict[str, Any], QuestionColumns]:
    """A question's parameters and the store's facts by name, checked, and the columns that they ask for.

    A document is still as it was given: its number is looked up where the store is read in any case.
    """
    names = [p.name for p in question.parameters]
    for name in given:
        if name not in names:
            raise UsageError(f"{question.name} has no parameter {name!r}{suggestion(name, names)}")
    values: dict[str, Any] = {}
    for parameter in question.parameters:
        if parameter.name in given:
            values[parameter.name] = _converted(parameter, given[parameter.name])
        elif parameter.required:
            raise UsageError(f"{question.name} needs the parameter {parameter.name}: {parameter.meaning}")
        else:
            values[parameter.name] = parameter.default
        if parameter.type == "model_class" and values[parameter.name] not in (None, *store.manifest.labels):
            raise UsageError(
                f"{parameter.name}={values[parameter.name]} does not fit: the model's classes are "
                f"{', '.join(store.manifest.labels)}"
            )

    of_type = {parameter.type: parameter.name for parameter in question.parameters if parameter.type in _ONCE}
    class_column = values[of_type["class"]] if "class" in of_type else None
    if class_column == "label" and not _has_labels(store):
        raise UsageError(f"no document of this store has a label: ask with {of_type['class']}=prediction")
    columns = _attention(store.manifest, of_type, values)
    facts = {name: getattr(store.manifest, name) for name in _FACTS}
    cluster = values[of_type["cluster"]] if "cluster" in of_type else None
    return values | facts, replace(columns, class_column=class_column, cluster=cluster)


def _attention(manifest: Manifest, of_type: Mapping[str, str], values: dict[str, Any]) -> QuestionColumns:
    """The columns with attention that a question's parameters ask for. Their `values` become plain ones."""
    means: dict[str, tuple[str, ...]] = {}
    elements: Mapping[str, tuple[str, int]] = {}
    heads = None
    if "reduction" in of_type:
        reduction = _reduction(manifest, of_type["reduction"], values[of_type["reduction"]])
        heads = manifest.heads if reduction.per_head else None
        columns = reduction.columns(manifest.layers)
        if "layer" in of_type:
            name = of_type["layer"]
            layer = values[name] = _layer(manifest, reduction, name, values[name], several="mean")
            means["attention"] = (columns[int(str(layer)) - 1],) if _is_number(layer) else tuple(columns)
        else:
            means |= {f"attention_{number:02d}": (column,) for number, column in enumerate(columns, start=1)}
    if "heads" in of_type:
        reduction = _of_heads(manifest, values[of_type["heads"]])
        layer = None
        if "layer" in of_type:
            name = of_type["layer"]
            layer = values[name] = _layer(manifest, reduction, name, values[name], several="all")
        elements = _by_head(manifest, reduction, layer)
    if "reductions" in of_type:
        name = of_type["reductions"]
        values[name], several = _of_several(manifest, name, values[name])
        means |= {f"attention:{column}": (column,) for column in several}
    return QuestionColumns(means, heads, elements)


def _reduction(manifest: Manifest, parameter: str, name: str) -> StoredReduction:
    reduction = manifest.reduction(name)
    if reduction is None:
        held = ", ".join(r.name for r in manifest.reductions) or "none"
        raise UsageError(f"the store has no reduction {name!r}: {parameter} is one of those it holds: {held}")
    return reduction


def _of_heads(manifest: Manifest, name: str) -> StoredReduction:
    reduction = manifest.reduction(name)
    if reduction is None or not reduction.per_head:
        raise UsageError(
            f"the store has no values a head of {name!r}: run again with --reduce cls_heads beside what else you want"
        )
    return reduction


def _by_head(manifest: Manifest, reduction: StoredReduction, layer: str | None) -> dict[str, tuple[str, int]]:
    """The column for each layer (or the one) and head of a reduction, and where its value stands."""
    return {
        f"attention_{number:02d}_{head:02d}": (column, head - 1)
        for number, column in enumerate(reduction.columns(manifest.layers), start=1)
        for head in range(1, manifest.heads + 1)
        if not _is_number(layer) or number == int(str(layer))
    }


def _of_several(manifest: Manifest, parameter: str, names: list[str] | None) -> tuple[list[str], list[str]]:
    """The reductions' names, and the columns of all their layers; None is all that have one value a token."""
    if names is None:
        names = [reduction.name for reduction in manifest.reductions if not reduction.per_head]
    columns: list[str] = []
    for name in names:
        reduction = _reduction(manifest, parameter, name)
        if reduction.per_head:
            raise UsageError(f"{name} has a value a head: {parameter} takes reductions of one value a token")
        columns += reduction.columns(manifest.layers)
    return names, list(dict.fromkeys(columns))


def _layer(
    manifest: Manifest, reduction: StoredReduction, parameter: str, layer: str, several: str
) -> str | None:
    """The layer as its number, or the word `several`; None for a reduction that has one value for all layers."""
    if not reduction.per_layer:
        if _is_number(layer):
            raise UsageError(f"{reduction.name} has one value for all layers: leave {parameter} out")
        return None
    if layer == several:
        return layer
    if layer in ("mean", "all"):
        raise UsageError(f"{parameter}={layer} does not fit: it is a number, first, last or {several}")
    number = {"first": 1, "last": manifest.layers}.get(layer) or int(layer)
    if not 1 <= number <= manifest.layers:
        raise UsageError(
            f"the store has no layer {number}: {parameter} is 1 to {manifest.layers}, first, last or {several}"
        )
    return str(number)


def _is_number(layer: str | None) -> bool:
    return layer is not None and layer not in _LAYER_WORDS


def _has_labels(store: Store) -> bool:
    """Whether some document has a gold label. While there is no document yet, nothing speaks against it."""
    if store.manifest.label_in_path:
        found = [label for _, label, _ in store.partitions(store.documents_files())]
        return not found or any(label is not None for label in found)
    frame = documents(store).select(some=pl.col("label").is_not_null().any(), rows=pl.len())
    some, rows = collect(store, frame).row(0)
    return bool(some or rows == 0)


def unknown_word(store: Store, word: str) -> str:
    """What to say of a word that no document of the store has; nothing if one has it."""
    sql = "SELECT DISTINCT word FROM tokens WHERE word IN ($word, $lower)"
    with connect(store) as connection:
        found = (
            views.select(store, connection, sql, {"word": word, "lower": word.lower()}).column(0).to_pylist()
        )
    if word in found:
        return ""
    return f"no document has the word {word!r}" + (f": {word.lower()!r} is there" if found else "")


def document_number(store: Store, wanted: str | SupportsIndex) -> int:
    """The number of the document with that id or, if no document has it for its id, with that number.

    A number that is no text, or written `@3`, is never taken for an id.

    Raises:
        UsageError: there is no such document, or the id belongs to several.
        StoreError: the store can't be read.
    """
    with connect(store) as connection:
        return _number_of(store, connection, wanted)


def _number_of(store: Store, connection: duckdb.DuckDBPyConnection, wanted: str | SupportsIndex) -> int:
    """`document_number`, over a connection that is there."""

    def column(sql: str, **values: object) -> list[Any]:
        return list(views.select(store, connection, sql, values).column(0).to_pylist())

    if isinstance(wanted, str) and (written := _BY_NUMBER.fullmatch(wanted)):
        wanted = int(written[1])
    if isinstance(wanted, str):
        found = column("SELECT document FROM documents WHERE id = $id ORDER BY document", id=wanted)
        if len(found) > 1:
            numbers = ", ".join(f"@{number}" for number in found[:3]) + (" ..." if found[3:] else "")
            raise UsageError(
                f"{len(found)} documents have the id {wanted!r}: give the number of one ({numbers})"
            )
        if found:
            return int(found[0])
    number = _whole(wanted) if not isinstance(wanted, str) or _NUMBER.fullmatch(wanted) else None
    if number is not None and column("SELECT 1 FROM documents WHERE document = $number", number=number):
        return number
    (there,) = column("SELECT count(*) FROM documents")
    planned = store.manifest.documents
    holds = f"{planned:,} documents" if there == planned else f"{there:,} of {planned:,} documents so far"
    close = column(
        "SELECT id FROM documents ORDER BY jaro_winkler_similarity(id, $id) DESC, document LIMIT 3",
        id=str(wanted),
    )
    hint = f": did you mean {', '.join(close)}?" if close and number is None else ": they count from 0"
    raise UsageError(f"there is no document {wanted!r} in this store of {holds}{hint}")


# ---------------------------------------------------------------------------------------------------------
# Values of parameters
# ---------------------------------------------------------------------------------------------------------


def _converted(parameter: Parameter, value: object) -> Any:
    """`value`, which may be text from the command line, as the parameter's type. Raises UsageError."""
    if parameter.default is None and not parameter.required and (value is None or value == "auto"):
        return None
    convert, wanted = _CONVERSIONS[parameter.type]
    if parameter.choices:
        wanted = f"one of {', '.join(parameter.choices)}"
    try:
        converted = convert(value)
        if parameter.choices and converted not in parameter.choices:
            raise ValueError
    except ValueError as error:
        raise UsageError(f"{parameter.name}={_as_text(value)} does not fit: it is {wanted}") from error
    return converted


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


#: A document's number, where a text would be its id. Not `#3`: shells take that for a comment.
_BY_NUMBER = re.compile(r"@([0-9]{1,18})")
_NUMBER = re.compile(r"\s*[+-]?[0-9]+\s*")


def _whole(value: object) -> int:
    if isinstance(value, bool) or not (
        isinstance(value, SupportsIndex) or (isinstance(value, str) and _NUMBER.fullmatch(value))
    ):
        raise ValueError
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def _count(value: object) -> int:
    number = _whole(value)
    if number < 0:
        raise ValueError
    return number


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _amount(value: object) -> float:
    number = _number(value)
    if number < 0:
        raise ValueError
    return number


def _truth(value: object) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    word = str(value).lower()
    if word not in words:
        raise ValueError
    return words[word]


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        try:
            # `[CLS]` is no JSON but a token.
            value = json.loads(value) if value.startswith("[") else value.split(",") if value else []
        except ValueError:
            value = str(value).split(",")
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(t, str) for t in value):
        raise ValueError
    return list(value)


def _layer_value(value: object) -> str:
    return str(value) if value in _LAYER_WORDS else str(_whole(value))


def _document_value(value: object) -> str | int:
    return value if isinstance(value, str) else _whole(value)


_CONVERSIONS: dict[str, tuple[Callable[[object], Any], str]] = {
    "text": (_text, "a text"),
    "integer": (_whole, "a whole number"),
    "count": (_count, "a whole number, 0 or more"),
    "number": (_number, "a number"),
    "amount": (_amount, "a number, 0 or more"),
    "boolean": (_truth, "true or false"),
    "list": (_texts, 'texts, separated by commas or as JSON: ["a", "b"]'),
    "model_class": (_text, "a class of the model"),
    "class": (_text, ""),
    "cluster": (_text, ""),
    "reduction": (_text, "the name of a reduction"),
    "heads": (_text, "the name of a reduction"),
    "reductions": (_texts, "the names of reductions, separated by commas"),
    "layer": (_layer_value, "a number, or a word such as first or last"),
    "document": (_document_value, "an id, or a number, such as @3"),
}


# ---------------------------------------------------------------------------------------------------------
# Asking
# ---------------------------------------------------------------------------------------------------------


def ask(
    store: Store,
    question: Question,
    parameters: Mapping[str, object] | None = None,
    engine: Engine = "duckdb",
) -> pa.Table:
    """The answer to a question, as a table whose metadata says on one line (`BASIS_KEY`) what it rests on.

    `parameters` by name, as values or as the text of one; those not given have their defaults. An unfinished
    store answers with the parts that are there.

    Raises:
        UsageError: a parameter is unknown, missing or unfit, the store does not have what it names, or the
            question has no answer in that engine.
        StoreError: the store can't be read.
    """
    if engine not in ("duckdb", "polars"):
        raise UsageError(f"there is no engine {engine!r}: duckdb and polars are there")
    if engine == "polars" and question.polars is None:
        raise UsageError(f"{question.name} is there for DuckDB alone: it has no {question.name}.py beside it")
    values, added = _bound(store, question, parameters or {})
    document = next((p.name for p in question.parameters if p.type == "document"), None)
    if engine == "duckdb":
        with connect(store, added) as connection:
            if document is not None:
                values[document] = _number_of(store, connection, values[document])
            return _duckdb_answer(store, connection, question, values)
    if document is not None:
        values[document] = document_number(store, values[document])
    return _based(store, values, _polars_answer(store, question, values, added))


def document_with_tokens(
    store: Store, wanted: str | SupportsIndex, reduction: str, layer: int | str
) -> tuple[dict[str, Any], pa.Table]:
    """The row of the document that `document_number` finds, by column, and its tokens: `document_tokens`.

    Raises:
        UsageError: there is no such document, reduction or layer, or the id belongs to several documents.
        StoreError: the store can't be read.
    """
    question = get_question("document_tokens", find_questions())
    given = {"document": wanted, "reduction": reduction, "layer": layer}
    values, added = _bound(store, question, given)
    with connect(store, added) as connection:
        number = values["document"] = _number_of(store, connection, values["document"])
        sql = "SELECT * FROM documents WHERE document = $number"
        (row,) = views.select(store, connection, sql, {"number": number}).to_pylist()
        return row, _duckdb_answer(store, connection, question, values)


def _duckdb_answer(
    store: Store, connection: duckdb.DuckDBPyConnection, question: Question, values: Mapping[str, Any]
) -> pa.Table:
    named = views.reading_statement(question.sql).named_parameters
    table = views.select(store, connection, question.sql, {name: values[name] for name in named})
    return _based(store, values, table)


def _based(store: Store, values: Mapping[str, Any], table: pa.Table) -> pa.Table:
    """The answer with the line that says what it is based on."""
    finished = store.finished_parts()
    there = f"{sum(len(store.part_range(part)) for part in finished):,} documents"
    if len(finished) < store.manifest.parts:
        there += f" ({len(finished)} of {store.manifest.parts} parts)"
    basis = [there, *(f"{name}={_as_text(value)}" for name, value in values.items() if name not in _FACTS)]
    return table.replace_schema_metadata({BASIS_KEY: ", ".join(basis).encode()})


def _polars_answer(
    store: Store, question: Question, values: Mapping[str, Any], added: QuestionColumns
) -> pa.Table:
    assert question.polars is not None  # noqa: S101 - `ask` has looked
    try:
        answer = question.polars(Tables(store, added), values)
        frame = collect(store, answer)
    except AttnstoreError:
        raise
    except Exception as error:  # a user's own file may do anything
        # A twin that asks for the columns has the files opened.
        if isinstance(error, pl.exceptions.ComputeError) and str(error).startswith("parquet"):
            raise store.unreadable(views.one_line(error)) from error
        raise UsageError(f"{question.path.with_suffix('.py')} failed: {views.one_line(error)}") from error
    return views.plain(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))
