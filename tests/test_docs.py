"""Whatever the README and the docs promise is run."""

import ast
import re
import shutil
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest
from command_line import attnstore

import attnstore as attnstore_package

ROOT = Path(__file__).parents[1]
QUESTIONS = sorted(path for path in (ROOT / "queries").glob("*.sql") if path.name != "shared.sql")
README = (ROOT / "README.md").read_text()


def blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def value_of(block):
    """The value of a block's last expression, with the block run as a script."""
    tree = ast.parse(block)
    *statements, last = tree.body
    names = {}
    exec(compile(ast.Module(statements, []), "README", "exec"), names)  # noqa: S102 - our own README
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), "README", "eval"), names)  # noqa: S307 - as above


@pytest.fixture
def beside_a_demo(small_store, tmp_path, monkeypatch):
    """A folder with the store demo.attn that `attnstore run` writes."""
    shutil.copytree(small_store, tmp_path / "demo.attn")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def snippets(beside_a_demo):
    found = {re.search(r"import (\w+)", block)[1]: block for block in blocks(README)}
    assert list(found) == ["duckdb", "polars", "pandas", "pyarrow", "attnstore"]
    return found


def test_duckdb_reads_a_store_by_path_alone(snippets):
    """The README's SQL gives the same rows as the same question in pandas."""
    found = value_of(snippets["duckdb"].replace(">= 50", ">= 5")).df()
    tokens = pd.read_parquet("demo.attn/tokens").query("not special")
    tokens = tokens.assign(lift=tokens.cls_03.astype(float) * tokens.length)
    expected = tokens.groupby(["prediction", "token"], observed=True).agg(
        occurrences=("lift", "size"), lift=("lift", "mean")
    )
    expected = expected[expected.occurrences >= 5].sort_values("lift", ascending=False).head(10).reset_index()
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_categorical=False)


def test_polars_reads_a_store_by_path_alone(snippets):
    """Tokens by label, with DuckDB's counts."""
    expected = duckdb.sql("select label, count(*) from 'demo.attn/tokens/**/*.parquet' group by 1").fetchall()
    assert sorted(value_of(snippets["polars"]).rows()) == sorted(expected)


def test_pandas_reads_a_store_by_path_alone(snippets):
    """The confusion matrix, with DuckDB's counts."""
    expected = duckdb.sql(
        "select label, prediction, count(*) from 'demo.attn/documents/**/*.parquet' group by 1, 2"
    ).fetchall()
    assert sorted((*key, n) for key, n in value_of(snippets["pandas"]).items() if n) == sorted(expected)


def test_pyarrow_reads_a_store_by_path_alone(snippets):
    """Every token with its rollout and label, in the files' order."""
    table = value_of(snippets["pyarrow"])
    frame = pl.read_parquet("demo.attn/tokens", hive_partitioning=True)
    assert table.num_rows == len(frame)
    found = sorted(zip(*(table[n].to_pylist() for n in ("token", "rollout", "label")), strict=True))
    assert found == sorted(frame.select("token", "rollout", "label").rows())


@pytest.mark.slow
def test_the_package_answers_from_python(snippets, monkeypatch):
    """The block runs line by line, and its last line displays itself in a notebook and on a terminal."""
    drawn = value_of(snippets["attnstore"])
    assert drawn.id == "r0"
    assert drawn.text in str(drawn).replace("\n", " ") or drawn.text.split()[0] in str(drawn)
    assert drawn._repr_html_().count("<") > 10


def test_the_readmes_commands_exist(beside_a_demo):
    """Every `attnstore` command in the README exists, with all its options."""
    from attnstore.commands.group import attnstore as group

    used = re.findall(r"^ {4}attnstore (\w+)(.*)$", README, re.MULTILINE)
    assert {name for name, _ in used} >= {"run", "query", "sql", "show", "info", "verify"}
    for name, rest in used:
        options = {option for parameter in group.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options


@pytest.mark.slow
def test_the_demo_in_the_readme_is_what_the_demo_prints(tmp_path):
    """`attnstore run` without options prints the README's lines, except for the time."""
    from attnstore.engine.devices import choose_device, fast_bfloat16

    if not fast_bfloat16(choose_device("auto")):
        pytest.skip("the README's lines are of bfloat16, which is slow on this machine")
    code, out, err = attnstore("run", cwd=tmp_path)
    assert code == 0, err
    shown = README[README.index("<!-- demo: begin -->") : README.index("<!-- demo: end -->")]
    lines = [line[4:] for line in shown.splitlines() if line.startswith("    ")]
    timeless = [re.sub(r" in .*?; ", " ", line) for line in lines]
    assert [re.sub(r" in .*?; ", " ", line) for line in out[: out.index("next:")].splitlines()] == timeless


@pytest.mark.slow
def test_scattertext_gets_its_table_in_three_lines(beside_a_demo):
    """Those of docs/questions.md: the table has every word's share, and 0 for a word that the class does not have."""
    (block,) = blocks((ROOT / "docs/questions.md").read_text())
    shares, table, corpus = block.replace("imdb.attn", "demo.attn").strip().split("\n")
    names = {"attnstore": attnstore_package}
    exec(f"{shares}\n{table}", names)  # noqa: S102 - our own docs
    rows = attnstore_package.open("demo.attn").query(
        "top_words_by_class", limit=10**6, min_documents=1, engine="polars"
    )
    words = pl.scan_parquet("demo.attn/tokens").filter(
        pl.col("word").cast(pl.String).str.contains(r"[\p{L}\p{N}]")
    )
    words = words.select(pl.col("prediction", "word").cast(pl.String)).unique().collect()
    assert {(row["class"], row["word"]) for row in rows.to_pylist()} == set(words.rows())
    expected = {(row["word"], row["class"]): pytest.approx(row["share"]) for row in rows.to_pylist()}
    found = {(word, name): n for name, column in names["table"].items() for word, n in column.items() if n}
    assert found == expected
    scattertext = pytest.importorskip("scattertext", reason="scattertext is not installed")
    exec(corpus, names | {"scattertext": scattertext})  # noqa: S102


def test_every_question_has_an_answer_in_the_docs():
    """docs/questions.md has a heading, the command, and the question's columns."""
    page = (ROOT / "docs/questions.md").read_text()
    for question in QUESTIONS:
        (section,) = re.findall(rf"^## {question.stem}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
        assert re.search(rf"^`attnstore query \w+\.attn {question.stem}\b", section, re.MULTILINE)
        assert "**Caution:**" in section
        headers = re.findall(r"^\| (.*) \|\n\|---", section, re.MULTILINE)
        assert headers, question.stem
        selected = question.read_text().rsplit("\nSELECT", 1)[1]
        names = {name for header in headers for name in header.split(" | ")}
        assert all(re.search(rf'\b"?{name}"?\b', selected) for name in names), question.stem


def test_every_command_and_every_question_is_documented():
    """A command or question that the README and the changelog do not mention fails here."""
    from attnstore.commands.group import attnstore as group

    for name in group.commands:
        assert f"attnstore {name}" in README or f"`{name}`" in README, name
    changelog = (ROOT / "CHANGELOG.md").read_text()
    for question in QUESTIONS:
        assert f"`{question.stem}`" in changelog, question.stem


def test_the_store_page_has_every_column(small_store):
    """docs/store.md names each column of a store, reductions by their pattern."""
    page = (ROOT / "docs/store.md").read_text()
    for table in ("documents", "tokens", "totals.parquet"):
        for name in pl.scan_parquet(small_store / table, hive_partitioning=True).collect_schema():
            pattern = re.sub(r"_0[23](?=$|_entropy$)", "_01", name.removesuffix("_lift"))
            assert f"`{pattern}`" in page, name


def test_the_store_pages_sql_over_the_documents_finds_the_most_concentrated(beside_a_demo):
    """The documents found have the entropies of their tokens, and the lowest of all."""
    sql, *_ = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/store.md").read_text(), re.DOTALL)
    documents = pl.scan_parquet("demo.attn/documents", hive_partitioning=True).select("document", "id")
    tokens = pl.scan_parquet("demo.attn/tokens", hive_partitioning=True)
    attention = pl.col("cls_03").cast(pl.Float64)
    of_tokens = tokens.group_by("document").agg(attention.entropy().exp()).join(documents, on="document")
    expected = dict(of_tokens.select("id", "cls_03").collect().rows())
    found = dict(duckdb.sql(sql).fetchall())
    assert list(found.values()) == pytest.approx(sorted(expected.values())[:10], rel=1e-6)
    assert found == pytest.approx({id_: expected[id_] for id_ in found}, rel=1e-6)


def test_the_store_pages_sql_over_the_totals_agrees_with_the_tokens(beside_a_demo):
    """A word's mean lift and number of documents from totals.parquet are those from its tokens."""
    *_, sql = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/store.md").read_text(), re.DOTALL)
    found = duckdb.sql(sql).pl().sort("label", "word")
    tokens = pl.scan_parquet("demo.attn/tokens", hive_partitioning=True).filter(pl.col("word").is_not_null())
    lift = (pl.col("cls_03").cast(pl.Float64) * pl.col("length") / pl.col("pieces")).sum()
    expected = (
        tokens.with_columns(pl.col("label", "word").cast(pl.String))
        .group_by("label", "word")
        .agg(lift=lift / (pl.col("piece") == 0).sum(), documents=pl.col("new_word").sum())
        .filter(pl.col("documents") >= 5)
        .sort("label", "word")
        .collect()
    )
    assert len(found) > 10
    assert found.select("label", "word").rows() == expected.select("label", "word").rows()
    assert found["documents"].cast(pl.Int64).to_list() == expected["documents"].cast(pl.Int64).to_list()
    assert found["lift"].to_list() == pytest.approx(expected["lift"].to_list(), rel=1e-6)


@pytest.mark.slow
def test_the_reductions_of_the_docs_run(tiny_model, reviews, tmp_path, monkeypatch):
    """The two functions of docs/reductions.md, named on the command line, are columns of the store."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text("\n".join(blocks((ROOT / "docs/reductions.md").read_text())))
    code, _, err = attnstore(
        *("run", tmp_path / "mine.attn", "--reduce", "cls,mine:verbs,mine:strongest", "--data", reviews),
        *("--model", tiny_model, "--limit", "4", "--max-length", "40"),
        cwd=tmp_path,
    )
    assert code == 0, err
    columns = pl.scan_parquet(tmp_path / "mine.attn/tokens", hive_partitioning=True).collect_schema().names()
    assert {"verbs_01", "verbs_03", "strongest_01", "strongest_03", "cls_03"} <= set(columns)
    code, out, _ = attnstore("info", tmp_path / "mine.attn")
    assert "verbs_01 … verbs_03: Where the verbs look." in out


def test_links_between_the_pages_are_valid():
    """Every relative link of the README and the docs names an existing file."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_house_page_names_every_file_in_its_room():
    """docs/house.md has a row for each room, which names each of its files and no others."""
    page = (ROOT / "docs/house.md").read_text()
    rows = dict(re.findall(r"^\| `?([^`|]+?)/?`? \| (.*) \|$", page, re.MULTILINE))
    package = ROOT / "attnstore"
    rooms = {str(p.parent.relative_to(package)) for p in package.rglob("*.py")} - {"."}
    assert rooms | {"ground", "../queries"} == rows.keys() - {"room", "---"}
    for room, text in rows.items():
        if room not in rooms | {"ground"}:
            continue
        folder = package / ("" if room == "ground" else room)
        files = {p.stem for p in folder.glob("*.py")} - {"__init__"}
        named = set(re.findall(r"`(\w+)`", text))
        assert files <= named, f"{room}: {files - named} is not named"
        assert named - files <= {p.stem for p in package.rglob("*.py")} | {"kernel"}, (
            f"{room}: {named - files} is gone"
        )


def test_every_page_is_in_the_menu():
    """`make docs` refuses a page of docs/ that mkdocs.yml does not name."""
    menu = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    named = set(re.findall(r"([\w-]+\.md)$", menu, re.MULTILINE))
    elsewhere = {"index.md", "contributing.md", "security.md", "changelog.md"}
    assert named - elsewhere == {page.name for page in (ROOT / "docs").glob("*.md")}


def test_files_named_in_the_guides_exist():
    """SECURITY.md and CONTRIBUTING.md name files that exist."""
    for name in ("SECURITY.md", "CONTRIBUTING.md"):
        paths = re.findall(
            r"`((?:tests|attnstore|docs|queries)/[\w/.-]*)(?:::\w+)?`", (ROOT / name).read_text()
        )
        assert len(paths) > 5
        assert [path for path in paths if not (ROOT / path).exists() and "NAME" not in path] == []


def test_each_promise_names_an_existing_test():
    """A row of SECURITY.md's second table has `file::function`, or the words "not tested"."""
    rows = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| **")]
    assert len(rows) > 10
    for row in rows:
        tests = re.findall(r"`(tests/[\w/.]+)::(\w+)`", row)
        assert tests or row.endswith("| not tested |"), row
        for path, function in tests:
            assert f"\ndef {function}(" in (ROOT / path).read_text(), (path, function)


def test_the_queries_by_hand_are_run(beside_a_demo):
    """Each query of docs/by-hand.md gives the same result as the same question in Polars."""
    tokens_of_class, by_length, document = re.findall(
        r"```sql\n(.*?)```", (ROOT / "docs/by-hand.md").read_text(), re.DOTALL
    )
    tokens = pl.read_parquet("demo.attn/tokens", hive_partitioning=True).cast(
        {"token": pl.String, "prediction": pl.String}
    )
    documents = pl.read_parquet("demo.attn/documents", hive_partitioning=True)
    lift = (pl.col("cls_03").cast(pl.Float64) * pl.col("length")).mean().alias("lift")
    expected = (
        tokens.filter(~pl.col("special"))
        .group_by("prediction", "token")
        .agg(pl.len().alias("occurrences"), lift)
        .filter(pl.col("occurrences") >= 20)
    )
    found = duckdb.sql(tokens_of_class).pl()
    assert len(found) > 2
    order = ["prediction", "token"]
    assert found.sort(order).select(order).equals(expected.sort(order).select(order))
    assert found.sort(order)["lift"].to_list() == pytest.approx(expected.sort(order)["lift"].to_list())
    right = documents.select(
        (pl.col("length") // 128 * 128).alias("from"),
        (pl.col("prediction").cast(pl.String) == pl.col("label")).alias("right"),
    )
    expected = right.group_by("from").agg(pl.len(), pl.col("right").mean()).sort("from")
    assert duckdb.sql(by_length).fetchall() == [pytest.approx(row) for row in expected.rows()]
    text = documents.filter(pl.col("document") == 0)["text"][0]
    rows = tokens.filter(pl.col("document") == 0).sort("position")
    spans = zip(rows["start"].to_list(), rows["end"].to_list(), strict=True)
    expected = list(
        zip(rows["position"].to_list(), (text[a:b] for a, b in spans), rows["cls_03"].to_list(), strict=True)
    )
    assert duckdb.sql(document).fetchall() == expected


@pytest.mark.slow
def test_the_recipes_for_other_libraries_give_their_formats(small_store, monkeypatch):
    """thermostat's five columns, with a row per document, and bertviz' page, if bertviz is installed."""
    import datasets
    import transformers

    (thermostat, bertviz) = blocks((ROOT / "docs/hub.md").read_text())[-2:]
    names = {
        "attnstore": attnstore_package,
        "polars": pl,
        "datasets": datasets,
        "transformers": transformers,
    }
    exec(thermostat.replace("reviews.attn", str(small_store)), names)  # noqa: S102 - our own docs
    found = names["thermostat"]
    assert set(found.column_names) == {"attributions", "idx", "input_ids", "label", "predictions"}
    store = attnstore_package.open(small_store)
    tokens = store.tokens().collect().partition_by("document", as_dict=True)
    assert len(found) == len(tokens) == 60
    for row, document in zip(found, store.documents().sort("document").collect().to_dicts(), strict=True):
        own = tokens[document["document"],].sort("position")
        assert row["idx"] == document["document"]
        assert store.manifest.labels[row["label"]] == document["label"]
        assert row["predictions"] == document["logits"]
        assert (row["attributions"], row["input_ids"]) == (
            own["evidence"].to_list(),
            own["token_id"].to_list(),
        )
    names["bertviz"] = pytest.importorskip("bertviz", reason="bertviz is not installed")
    exec(bertviz.replace("reviews.attn", str(small_store)), names)  # noqa: S102
    layers, heads = store.manifest.layers, store.manifest.heads
    assert [tuple(m.shape) for m in names["matrices"]] == [
        (1, heads, len(names["names"]), len(names["names"]))
    ] * layers
    assert "render" in names["page"]
