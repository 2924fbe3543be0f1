"""Questions as files: how they are found and described, and how their parameters are bound."""

import json
import re

import duckdb
import pytest
from asked_store import made_up_documents, write_store
from measured_store import measured_rows, written

from attnstore.ask.answer import BASIS_KEY, COLUMNS_KEY, ask, document_with_tokens
from attnstore.ask.lookup import document_number
from attnstore.ask.questions import FACTS, asked_statement, describe, find_questions, get_question
from attnstore.ask.values import Parameter
from attnstore.errors import UsageError
from attnstore.store import frames
from attnstore.store.store import open_store

QUESTIONS = find_questions()
ENGINES = ("duckdb", "polars")


@pytest.fixture(scope="module")
def documents():
    return made_up_documents(30)


@pytest.fixture(scope="module")
def store(tmp_path_factory, documents):
    store = open_store(write_store(tmp_path_factory.mktemp("questions") / "s", documents).path)
    written(store, measured_rows(range(20), ["cls_01", "random"]))
    return store


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "mine"


def write_question(folder, sql, name="mine", twin=None):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.sql").write_text(sql, encoding="utf-8")
    if twin is not None:
        (folder / f"{name}.py").write_text(twin, encoding="utf-8")
    return find_questions(folder)[name] if twin is None or twin else None


def same(one, other):
    """Equal tables, except that the last digit of a sum depends on the order in which threads add."""
    rows = [
        {name: pytest.approx(v, rel=1e-12) if isinstance(v, float) else v for name, v in row.items()}
        for row in other.to_pylist()
    ]
    return one.schema == other.schema and one.num_rows > 0 and one.to_pylist() == rows


def one_line(caught):
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text


# -- the shipped ones -------------------------------------------------------------------------------------


def test_the_shipped_questions_are_all_there_in_both_engines():
    """Each has a Polars twin, a question as its first line, and advice on how to read the answer."""
    assert sorted(QUESTIONS) == [
        "attention_vs_frequency", "calibration", "concentration", "confusion", "contexts", "distinctive_words",
        "document_tokens", "edits", "errors", "faithfulness", "find_documents", "flips", "for_and_against", "heads",
        "layer_agreement", "layer_profile", "lexicon", "negation", "phrases", "position_profile", "predictions",
        "ratings", "similar_documents",
        "sinks", "top_tokens_by_class", "top_words_by_class", "truncation", "within_group",
    ]  # fmt: skip
    for question in QUESTIONS.values():
        assert question.polars is not None
        assert question.summary.endswith("?") or question.name == "document_tokens"
        assert "How to read the answer" in question.documentation


@pytest.mark.slow
@pytest.mark.parametrize("name", QUESTIONS)
def test_a_shipped_question_is_one_select_whose_names_are_known(name):
    """So this is not checked again when they are loaded."""
    question = QUESTIONS[name]
    known = {*(parameter.name for parameter in question.parameters), *FACTS}
    assert set(asked_statement(question.sql).named_parameters) <= known


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(QUESTIONS))
def test_a_description_shows_a_row_of_a_real_answer(store, name):
    """With the command that gave it, and the question's columns."""
    question = QUESTIONS[name]
    example = re.search(
        r"\nExample:\s+attnstore\s+query\s+\w+\.attn (\w+).*?first\s+row:\n((?:    .+\n)+)",
        describe(question),
        re.DOTALL,
    )
    assert example and example[1] == name
    given = (
        {"document": 0} if question.parameter("document") else {"word": "film"} if name == "contexts" else {}
    )
    signed = [p for p in question.parameters if p.type == "signed_reduction" and p.default == "evidence"]
    given |= {p.name: "odd" for p in signed}  # the only signed score
    columns = ask(store, question, given, "polars").column_names  # it is faster, with the same columns
    assert re.match(", ".join(rf"{column}=.*?" for column in columns), " ".join(example[2].split()))


def test_the_parameters_of_a_question_come_from_its_comment():
    """Name, type, default, meaning and choices, in the comment's order. A meaning may have several lines."""
    parameters = {p.name: p for p in QUESTIONS["top_words_by_class"].parameters}
    assert list(parameters) == [
        "reduction", "layer", "by", "pieces", "min_documents", "specials", "punctuation", "ignore",
        "renormalise", "intervals", "cluster", "shrinkage", "rank_by", "limit",
    ]  # fmt: skip
    assert parameters["pieces"] == Parameter(
        "pieces",
        "text",
        "sum",
        "a word's attention is the sum, or the mean, over its pieces",
        ("sum", "mean"),
    )
    assert parameters["min_documents"] == Parameter(
        "min_documents",
        "count",
        None,
        "leave out words found in fewer documents of the class; auto: one in 200 of the class's documents, "
        "and at least 5",
    )
    assert parameters["by"].choices == ("prediction", "label")
    assert parameters["ignore"].default == []
    assert parameters["renormalise"].default is False
    assert QUESTIONS["document_tokens"].parameter("document") == Parameter(
        "document", "document", None, "its id, or its number", required=True
    )
    assert QUESTIONS["predictions"].parameters == ()


def test_a_description_holds_everything_a_user_has_to_know():
    """The question, how to read the answer, each parameter with its default, and the engines."""
    text = describe(QUESTIONS["document_tokens"])
    assert text.startswith("document_tokens\n\nWhat does the model attend to in one document?")
    assert "How to read the answer: one row per token." in text
    assert "  document: document, required\n      its id, or its number\n" in text
    assert "  reduction: signed_reduction, default cls\n" in text
    assert text.endswith("\nEngines: duckdb, polars")
    words = describe(QUESTIONS["top_words_by_class"])
    assert "  min_documents: count, default auto\n" in words
    assert "  ignore: list, default none\n" in words
    assert "  pieces: sum|mean, default sum\n" in words
    assert "@param" not in words
    for width in (100, 60):
        lines = describe(QUESTIONS["top_words_by_class"], width).splitlines()
        assert width - 12 < max(map(len, lines)) <= width
        assert " ".join(lines).split() == words.split()
    assert "It has no parameters." in describe(QUESTIONS["predictions"])


def test_an_unknown_question_gets_the_most_similar_names():
    """A typing error or the beginning of a name gets a suggestion, anything else the list."""
    with pytest.raises(UsageError) as caught:
        get_question("top_word_by_class", QUESTIONS)
    assert one_line(caught).startswith(
        "there is no question 'top_word_by_class': did you mean top_words_by_class"
    )
    with pytest.raises(UsageError) as caught:
        get_question("top_w", QUESTIONS)
    assert one_line(caught) == "there is no question 'top_w': did you mean top_words_by_class?"
    with pytest.raises(UsageError) as caught:
        get_question("zzz", QUESTIONS)
    assert one_line(caught) == f"there is no question 'zzz': there are {', '.join(QUESTIONS)}"


# -- a user's own -----------------------------------------------------------------------------------------


def test_a_custom_question_is_described_and_bound_like_a_shipped_one(folder, store, documents):
    """A `.sql` file is enough, for DuckDB. Parameters of every plain type arrive with that type."""
    question = write_question(
        folder,
        "-- How long are they?\n--\n-- Prose.\n"
        "-- @param word: text -- a word\n-- @param least: integer = -3 -- a number\n"
        "-- @param part: number = 0.5 -- a number\n-- @param flag: boolean = yes -- yes or no\n"
        "-- @param names: list = a,b -- texts\n-- @param most: count = auto -- a number\n"
        "SELECT $word AS w, $least AS l, $part AS p, $flag AS f, $names AS n, $most IS NULL AS m, $layers AS y\n",
    )
    assert (question.summary, question.documentation, question.polars) == (
        "How long are they?",
        "Prose.",
        None,
    )
    table = ask(store, question, {"word": "it's; DROP VIEW tokens"})
    assert table.to_pylist() == [
        {"w": "it's; DROP VIEW tokens", "l": -3, "p": 0.5, "f": True, "n": ["a", "b"], "m": True, "y": 3}
    ]
    given = {
        "word": "x",
        "least": "7",
        "part": "1e-3",
        "flag": "false",
        "names": '["a,b", "[CLS]"]',
        "most": "2",
    }
    assert ask(store, question, given).to_pylist() == [
        {"w": "x", "l": 7, "p": 0.001, "f": False, "n": ["a,b", "[CLS]"], "m": False, "y": 3}
    ]
    with pytest.raises(UsageError) as caught:
        ask(store, question, {"word": "x"}, "polars")
    assert one_line(caught) == "mine works only in DuckDB: it has no mine.py beside it"
    assert set(find_questions(folder)) == {*QUESTIONS, "mine"}


@pytest.mark.slow
def test_a_terminal_shows_the_declared_columns_and_the_one_to_rank_by(folder, store):
    """They come with the answer, in both engines. A declared column that the answer lacks is refused."""
    for engine in ENGINES:
        for rank, more in (("lift", []), ("share", ["share"])):
            answer = ask(store, QUESTIONS["top_words_by_class"], {"rank_by": rank}, engine)
            shown = json.loads(answer.schema.metadata[COLUMNS_KEY])
            assert shown == ["class", "word", "documents", "lift", "low", "high", *more]
    mine = write_question(folder, "-- Which?\n-- @columns b, …a\nSELECT 1 AS a, 2 AS b, 3 AS c\n")
    assert mine.columns == ("b", "…a")
    assert json.loads(ask(store, mine, {}).schema.metadata[COLUMNS_KEY]) == ["b", "…a"]
    wrong = write_question(folder, "-- Which?\n-- @columns lenght\nSELECT 1 AS length\n")
    with pytest.raises(UsageError) as caught:
        ask(store, wrong, {})
    assert (
        "mine.sql: @columns names lenght, which is not a column of the answer: did you mean length?"
        in one_line(caught)
    )


@pytest.mark.slow
def test_a_reduction_without_a_layer_shows_every_layer(folder, store, documents):
    """`attention_01`, `attention_02`, and so on, for questions about layers."""
    question = write_question(
        folder,
        "-- How much does [CLS] get, layer by layer?\n-- @param reduction: reduction = cls -- which\n"
        "SELECT avg(COLUMNS('^attention_..$')) FROM tokens WHERE token = '[CLS]'\n",
        twin="import polars as pl\n"
        "def answer(tables, p):\n"
        "    mine = tables.tokens.filter(pl.col('token').cast(pl.String) == '[CLS]')\n"
        "    return mine.select(pl.col('^attention_..$').mean())\n",
    )
    of_layers = [
        sum(d["tokens"][0][f"cls_{layer:02d}"] for d in documents) / len(documents) for layer in (1, 2, 3)
    ]
    for engine in ENGINES:
        (row,) = ask(store, question, {}, engine).to_pylist()
        assert list(row.values()) == pytest.approx(of_layers, rel=1e-9)
        (row,) = ask(store, question, {"reduction": "rollout"}, engine).to_pylist()
        of_rollout = sum(d["tokens"][0]["rollout"] for d in documents) / len(documents)
        assert list(row.values()) == pytest.approx([of_rollout], rel=1e-9)


@pytest.mark.parametrize(
    ("sql", "wrong"),
    [
        ("SELECT 1", "has to begin with a comment"),
        ("--\n-- later\nSELECT 1", "has to begin with a comment"),
        ("-- Q?\n-- @param limit count -- n\nSELECT 1", "is not `@param NAME: TYPE -- meaning`"),
        ("-- Q?\n-- @param limit: count = 3\nSELECT 1", "is not `@param NAME: TYPE -- meaning`"),
        ("-- Q?\n-- @columns a,\nSELECT 1", "'@columns a,' is not `@columns NAME, NAME, …NAME`"),
        ("-- Q?\n-- @columns a\n-- @columns b\nSELECT 1", "the columns are declared twice"),
        ("-- Q?\n-- @pair a\nSELECT 1", "'@pair a' is not `@pair NAME, NAME: NAME, NAME`"),
        ("-- Q?\n-- @pair a: a\nSELECT 1", "'@pair a: a' is not `@pair NAME, NAME: NAME, NAME`"),
        ("-- Q?\n-- @pair a: b\n-- @pair b: a\nSELECT 1", "the pair is declared twice"),
        ("-- Q?\n-- @param a: cuont -- n\nSELECT 1", "unknown type 'cuont': did you mean count?"),
        ("-- Q?\n-- @param a: count = x -- n\nSELECT 1", "the default does not fit: a=x does not fit"),
        ("-- Q?\n-- @param a: b|c = d -- n\nSELECT 1", "a=d does not fit: it is one of b, c"),
        ("-- Q?\n-- @param a: text -- n\n-- @param a: text -- n\nSELECT 1", "the parameter a is declared twice"),
        ("-- Q?\n-- @param layers: text -- n\nSELECT 1", "$layers is what the store says of itself"),
        ("-- Q?\n-- @param a: class -- n\n-- @param b: class -- n\nSELECT 1", "at most one parameter of type class"),
        ("-- Q?\n-- @param a: layer = last -- n\nSELECT 1", "a parameter of type reduction, signed_reduction or heads"),
        ("-- Q?\n-- @param a: reduction -- n\n-- @param b: head = mean -- n\nSELECT 1", "a head parameter needs one"),
        ("-- Q?\n-- @param a: reduction -- n\n-- @param b: reductions -- n\nSELECT 1", "reductions, not both"),
        ("-- Q?\n-- @param limit: count -- n\nSELECT $limti", "$limti is not declared: did you mean limit?"),
        ("-- Q?\nSELECT 1; SELECT 2", "give one SELECT: here are 2 statements"),
        ("-- Q?\nCREATE TABLE t AS SELECT 1", "a store is only read"),
        ("-- Q?\nWITH a AS (COPY tokens TO 'x') SELECT 1", "no COPY in a WITH clause"),
        ("-- Q?\nSELEC 1", "syntax error"),
        ("-- Q?\n", "give one SELECT: here are no statements"),
    ],
)  # fmt: skip
def test_a_malformed_question_is_one_line_that_names_its_file(folder, sql, wrong):
    """The fault is found when the folder is read, not when the question is asked."""
    with pytest.raises(UsageError) as caught:
        write_question(folder, sql)
    text = one_line(caught)
    assert str(folder / "mine.sql") in text
    assert wrong in text


def test_a_question_saved_by_any_editor_is_read(folder):
    """With a byte order mark, and with Windows line ends."""
    folder.mkdir()
    text = "-- How many?\r\n--\r\n-- @param least: count = 3 -- tokens\r\nSELECT $least AS n\r\n"
    (folder / "mine.sql").write_bytes(text.encode("utf-8-sig"))
    question = find_questions(folder)["mine"]
    assert question.summary == "How many?"
    assert question.parameters == (Parameter("least", "count", 3, "tokens"),)


def test_unusable_folders_are_reported(tmp_path, folder):
    """A missing or empty folder, a file, text that is not UTF-8, or a question with an existing name."""
    for path, wrong in ((tmp_path / "no", "is not a folder"), (tmp_path, "has no .sql file")):
        with pytest.raises(UsageError, match=re.escape(f"{path} {wrong}")):
            find_questions(path)
    with pytest.raises(UsageError, match=r"there is a question predictions already, .*rename one"):
        write_question(folder, "-- Q?\nSELECT 1", name="predictions")
    (folder / "predictions.sql").write_bytes(b"-- \xff\nSELECT 1")
    with pytest.raises(UsageError) as caught:
        find_questions(folder)
    assert str(folder / "predictions.sql") in one_line(caught)


@pytest.mark.parametrize(
    ("twin", "wrong"),
    [
        ("def answer(", "can't be loaded"),
        ("x = 1", "can't be loaded: module"),
        ("def answer(t, p):\n    return t.tokens.select('nothing')", "failed"),
        ("def answer(t, p):\n    raise ValueError('one\\ntwo')", "failed: one two"),
        ("def answer(t, p):\n    return 3", "failed"),
    ],
)
def test_a_failing_custom_twin_is_one_line_that_names_its_file(folder, store, twin, wrong):
    """It is loaded when it is asked, and its errors are reported as its own."""
    question = write_question(folder, "-- Q?\nSELECT 1 AS x", twin=twin)
    assert ask(store, question).to_pylist() == [{"x": 1}]
    with pytest.raises(UsageError) as caught:
        ask(store, question, engine="polars")
    text = one_line(caught)
    assert str(folder / "mine.py") in text
    assert wrong in text


# -- binding ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("top_words_by_class", {"layr": 1}, "top_words_by_class has no parameter 'layr': did you mean layer?"),
        ("predictions", {"layer": 1}, "predictions has no parameter 'layer': there are none"),
        ("distinctive_words", {"prior": "-1"}, "prior=-1 does not fit: it is a number, 0 or more"),
        ("document_tokens", {}, "document_tokens needs the parameter document: its id, or its number"),
        ("document_tokens", {"document": 0, "head": 1}, "cls has one value for all heads: leave head out"),
        ("document_tokens", {"document": 0, "head": 0}, "head=0 does not fit: it is a number from 1, or mean"),
        ("document_tokens", {"document": 0, "reduction": "cls_heads", "head": 3},
         "the store has no head 3: head is 1 to 2, or mean"),
        ("document_tokens", {"document": 0, "reduction": "cls_heads", "head": 1, "layer": "mean"},
         "head=1 is a head of one layer: choose the layer by its number"),
        ("top_words_by_class", {"limit": "ten"}, "limit=ten does not fit: it is a whole number, 0 or more"),
        ("top_words_by_class", {"limit": -1}, "limit=-1 does not fit: it is a whole number, 0 or more"),
        ("top_words_by_class", {"limit": "1.5"}, "limit=1.5 does not fit: it is a whole number, 0 or more"),
        ("top_words_by_class", {"limit": True}, "limit=true does not fit: it is a whole number, 0 or more"),
        ("top_words_by_class", {"limit": None}, "limit=auto does not fit: it is a whole number, 0 or more"),
        ("top_words_by_class", {"limit": "9" * 30}, f"limit={'9' * 30} does not fit: it is a whole number, 0 or more"),
        ("top_words_by_class", {"pieces": "max"}, "pieces=max does not fit: it is one of sum, mean"),
        ("top_words_by_class", {"by": "labels"}, "by=labels does not fit: it is one of prediction, label"),
        ("top_words_by_class", {"renormalise": "maybe"}, "renormalise=maybe does not fit: it is true or false"),
        ("top_words_by_class", {"ignore": 3},
         'ignore=3 does not fit: it is texts, separated by commas or as JSON: ["a", "b"]'),
        ("top_words_by_class", {"ignore": [1]},
         'ignore=1 does not fit: it is texts, separated by commas or as JSON: ["a", "b"]'),
        ("top_words_by_class", {"layer": "lst"},
         "layer=lst does not fit: it is a number, or a word such as first or last"),
        ("top_words_by_class", {"layer": "all"},
         "layer=all does not fit: it is a number, first, last or mean, or best"),
        ("top_words_by_class", {"layer": 4},
         "the store has no layer 4: layer is 1 to 3, first, last or mean, or best"),
        ("top_words_by_class", {"layer": "0"},
         "the store has no layer 0: layer is 1 to 3, first, last or mean, or best"),
        ("top_words_by_class", {"reduction": "rollout", "layer": 2},
         "rollout has one value for all layers: leave layer out"),
        ("top_words_by_class", {"reduction": "received"},
         "the store has no reduction 'received': reduction must be one of cls, cls_heads, rollout, odd"),
        # Not names, but attempted injections.
        ("top_words_by_class", {"reduction": 'cls_03" AS attention FROM tokens --'},
         "the store has no reduction 'cls_03\" AS attention FROM tokens --': reduction must be one of "
         "cls, cls_heads, rollout, odd"),
        ("top_words_by_class", {"layer": "1; DROP VIEW tokens"},
         "layer=1; DROP VIEW tokens does not fit: it is a number, or a word such as first or last"),
        ("top_words_by_class", {"by": "label FROM tokens; --"},
         "by=label FROM tokens; -- does not fit: it is one of prediction, label"),
    ],
)  # fmt: skip
def test_an_invalid_parameter_is_one_line(store, engine, name, given, message):
    """Unknown, missing, of the wrong type, out of range, or not in this store: what it is, and what it may be."""
    with pytest.raises(UsageError) as caught:
        ask(store, QUESTIONS[name], given, engine)
    assert one_line(caught) == message


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_texts_are_bound_as_values(store, engine):
    """A quote, a comment or a statement in a text is just text: it matches no word, and changes nothing."""
    plain = ask(store, QUESTIONS["top_words_by_class"], {"min_documents": 1}, engine)
    for text in ("'); DROP VIEW tokens; --", '" OR 1=1 --', "$limit", "\\", "\x00"):
        given = {"min_documents": 1, "ignore": [text]}
        assert same(ask(store, QUESTIONS["top_words_by_class"], given, engine), plain)
    with pytest.raises(UsageError, match=r"^there is no document \"' OR 1=1 --\" in this store"):
        ask(store, QUESTIONS["document_tokens"], {"document": "' OR 1=1 --"}, engine)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_values_may_be_given_as_text(store, engine):
    """As on the command line; the answers are those of typed values from Python."""
    typed = {"min_documents": 1, "limit": 4, "layer": 2, "renormalise": True, "ignore": ["film", "the"]}
    texts = {"min_documents": "1", "limit": "4", "layer": "2", "renormalise": "yes", "ignore": "film,the"}
    question = QUESTIONS["top_words_by_class"]
    assert same(ask(store, question, texts, engine), ask(store, question, typed, engine))
    automatic = ask(store, question, {"min_documents": "auto"}, engine)
    assert same(automatic, ask(store, question, {"min_documents": None}, engine))
    assert same(automatic, ask(store, question, {}, engine))


@pytest.mark.slow
def test_a_list_may_hold_commas_and_brackets(store):
    """`[CLS]` is a token, not JSON. A comma itself is written as JSON. An empty text is an empty list."""
    question = QUESTIONS["top_words_by_class"]
    base = {"min_documents": 1, "specials": "in", "punctuation": "in", "limit": 100}

    def words(ignore):
        return {row["word"] for row in ask(store, question, {**base, "ignore": ignore}).to_pylist()}

    everything = words("")
    assert {"[CLS]", "[SEP]", ",", "!"} < everything
    assert words("[CLS],[SEP]") == everything - {"[CLS]", "[SEP]"}
    assert words('[",", "!"]') == everything - {",", "!"}


def test_an_unknown_engine_is_reported(store):
    """The error names the two engines."""
    with pytest.raises(UsageError, match=r"^there is no engine 'spark': choose duckdb or polars$"):
        ask(store, QUESTIONS["predictions"], {}, "spark")


@pytest.mark.slow
def test_an_answer_has_its_basis(store, tmp_path, documents):
    """In its metadata: documents, missing parts, the parameters with their defaults, and the layer as a number."""

    def basis(of, name, **given):
        return [
            ask(of, QUESTIONS[name], given, engine).schema.metadata[BASIS_KEY].decode() for engine in ENGINES
        ]

    full = (
        "30 documents, reduction=cls, layer=3, by=prediction, min_documents=auto, specials=out, punctuation=out, "
        "ignore=the,film, renormalise=false, intervals=true, cluster=group, shrinkage=10.0, rank_by=lift, limit=20"
        f"; independent: {len({d['group'] for d in documents} - {None})} groups and "
        f"{sum(d['group'] is None for d in documents)} single documents"
    )
    assert basis(store, "top_tokens_by_class", ignore="the,film") == [full, full]
    assert basis(store, "predictions") == ["30 documents"] * 2
    unfinished = write_store(tmp_path / "s", documents, part_size=10, parts=[1])
    assert basis(unfinished, "predictions") == ["10 documents (1 of 3 parts)"] * 2


# -- one document -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_document_is_found_by_id_then_by_number(tmp_path):
    """If ids are numbers themselves, a text is tried as an id first. A number, or `@2`, is always a document number."""
    made_up = made_up_documents(6)
    for document_, id_ in zip(made_up, ["2", "1", "0", "film/7", "twice", "twice"], strict=True):
        document_["id"] = id_
    store = write_store(tmp_path / "s", made_up)
    assert [document_number(store, wanted) for wanted in ("2", 2, "@2", "1", "film/7", "5", 5)] == [
        0,
        2,
        2,
        1,
        3,
        5,
        5,
    ]
    row, _ = document_with_tokens(store, "film/7", "cls", "last")
    assert (row["document"], row["id"], row["text"]) == (3, "film/7", made_up[3]["text"])
    for wanted, message in (
        ("film/8", "there is no document 'film/8' in this store of 6 documents: did you mean film/7, "),
        (6, "there is no document 6 in this store of 6 documents: they count from 0"),
        ("-1", "there is no document '-1' in this store of 6 documents: they count from 0"),
        ("twice", "2 documents have the id 'twice': give the number of one (@4, @5)"),
        ("@6", "there is no document 6 in this store of 6 documents: they count from 0"),
    ):
        with pytest.raises(UsageError) as caught:
            document_number(store, wanted)
        assert one_line(caught).startswith(message)


@pytest.mark.slow
def test_a_document_and_its_tokens_are_read_over_one_connection(store, monkeypatch):
    """The row equals Polars', the tokens equal the question's, and DuckDB is opened once."""
    asked = {"document": 3, "reduction": "cls", "layer": "mean"}
    expected = ask(store, QUESTIONS["document_tokens"], asked)
    opened, connect = [], duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda *given: opened.append(given) or connect(*given))
    row, tokens = document_with_tokens(store, 3, "cls", "mean")
    assert opened == [()]
    assert tokens.equals(expected, check_metadata=True)
    as_asked = frames.documents(store, frames.QuestionColumns(segments=True))
    assert row == as_asked.filter(document=3).collect().row(0, named=True)


@pytest.mark.slow
def test_a_document_of_a_missing_part_is_reported(tmp_path, documents):
    """An unfinished store says how many of its documents are there."""
    store = write_store(tmp_path / "s", documents, part_size=10, parts=[1])
    assert document_number(store, 12) == 12
    with pytest.raises(
        UsageError, match=r"^there is no document 3 in this store of 10 of 30 documents so far"
    ):
        document_number(store, 3)
