"""SQLite and DuckDB files written by their own libraries: complete documents, and nothing is ever written."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from written import open_

from attnstore.data.documents import Document, Rejected
from attnstore.errors import AttnstoreError, DataError, UsageError

ROWS = [("a fine film", "pos"), ("dull, and long", "neg"), ("schöne Grüße \U0001f600", None), (None, "pos")]


def named(table: str) -> str:
    doubled = table.replace('"', '""')
    return f'"{doubled}"'


def sqlite(path: Path, table: str = "reviews") -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"CREATE TABLE {named(table)} (text TEXT, label TEXT)")
    connection.executemany(f"INSERT INTO {named(table)} VALUES (?, ?)", ROWS)
    connection.commit()
    connection.close()


def duck(path: Path, table: str = "reviews") -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"CREATE TABLE {named(table)} (text TEXT, label TEXT)")
        connection.executemany(f"INSERT INTO {named(table)} VALUES (?, ?)", ROWS)


def expected(name: str) -> list[Document | Rejected]:
    return [
        *(
            Document(text, f"{name}:{n}", None, "all", label)
            for n, (text, label) in enumerate(ROWS[:3], 1)
            if text
        ),
        Rejected(f"{name} row 4", "text missing"),
    ]


Writer = Callable[..., None]
both = pytest.mark.parametrize("write", [sqlite, duck])


@both
class TestBoth:
    @pytest.mark.slow
    def test_a_table(self, write: Writer, tmp_path: Path) -> None:
        """The only table needs no name. One of several is chosen by name, and can be read any number of times."""
        path = tmp_path / "r.db"
        write(path)
        source = open_(path)
        assert (list(source), list(source)) == (expected("r.db"), expected("r.db"))
        write(path, 'odd "name"')
        assert list(open_(f'{path}::odd "name"')) == expected('r.db::odd "name"')
        with pytest.raises(UsageError, match=r"r.db has the tables .*reviews.*: name one with FILE::TABLE"):
            open_(path)
        with pytest.raises(UsageError, match=r"r.db has no table 'review', .*did you mean 'reviews'"):
            open_(f"{path}::review")

    @pytest.mark.slow
    def test_a_query(self, write: Writer, tmp_path: Path) -> None:
        """Its rows are the data, numbered in its order."""
        write(tmp_path / "r.db")
        query = "SELECT upper(text) AS text, label FROM reviews WHERE label = 'neg'"
        found = list(open_(tmp_path / "r.db", query=query))
        assert found == [Document("DULL, AND LONG", "r.db:1", None, "all", "neg")]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "query",
        [
            "DROP TABLE reviews",
            "DELETE FROM reviews",
            "CREATE TABLE other (a TEXT)",
            "ATTACH 'other.db' AS other",
            "SELECT 1 AS text; SELECT 2 AS text",
            "SELECT nothing FROM nowhere",
            "PRAGMA journal_mode = DELETE",
            "",
        ],
    )
    def test_a_query_that_writes_is_refused(
        self, write: Writer, query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Anything but a single SELECT is refused in one line.

        The file stays unchanged, and no file appears beside it.
        """
        monkeypatch.chdir(tmp_path)
        write(tmp_path / "r.db")
        before = (tmp_path / "r.db").read_bytes()
        with pytest.raises(UsageError) as caught:
            open_("r.db", query=query)
        assert "\n" not in str(caught.value) and str(caught.value).startswith("r.db")
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"r.db": before}

    def test_a_truncated_file(self, write: Writer, tmp_path: Path) -> None:
        """A damaged database is a one-line error."""
        path = tmp_path / "r.db"
        write(path)
        path.write_bytes(path.read_bytes()[:600])
        with pytest.raises(AttnstoreError, match=r"^r.db [^\n]+$"):
            list(open_(path))

    def test_a_database_without_tables(self, write: Writer, tmp_path: Path) -> None:
        """It has nothing to read."""
        write(tmp_path / "r.db")
        module = sqlite3 if write is sqlite else duckdb
        connection = module.connect(str(tmp_path / "r.db"))
        connection.execute("DROP TABLE reviews")
        connection.close()
        with pytest.raises(UsageError, match=r"^r.db has no tables$"):
            open_(tmp_path / "r.db")


def test_duckdb_reads_no_other_file(tmp_path: Path) -> None:
    """A query can read only the database it is given."""
    duck(tmp_path / "r.db")
    (tmp_path / "secret.csv").write_text("text\nsecret\n")
    with pytest.raises(UsageError, match=r"r.db refuses the query"):
        open_(tmp_path / "r.db", query=f"SELECT * FROM '{tmp_path}/secret.csv'")


def test_sqlite_columns_of_mixed_types(tmp_path: Path) -> None:
    """A column of SQLite can hold values of any type, so each row is judged separately."""
    connection = sqlite3.connect(tmp_path / "r.db")
    connection.execute("CREATE TABLE t (id, text, label)")
    rows = [(1, "good", 1), ("x", 5, "1"), (3, b"\xff", 0), (4, "two", 1.5), (None, "three", None)]
    connection.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    connection.commit()
    connection.close()
    assert list(open_(tmp_path / "r.db", label_column="label")) == [
        Document("good", "1", None, "all", "1"),
        Rejected("r.db row 2", "text is not a string"),
        Rejected("r.db row 3", "not UTF-8"),
        Document("two", "4", None, "all", "1.5"),
        Document("three", "r.db:5", None, "all", None),
    ]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_query_without_a_database(what: str, tmp_path: Path) -> None:
    """A query needs a database."""
    (tmp_path / "r.csv").write_text("text,label\na b c,pos\n")
    with pytest.raises(UsageError, match="--query asks a SQLite or DuckDB file"):
        open_(tmp_path / "r.csv" if what == "file" else tmp_path, query="SELECT 1")


def test_a_table_and_a_query(tmp_path: Path) -> None:
    """They exclude each other."""
    sqlite(tmp_path / "r.db")
    with pytest.raises(UsageError, match=r"give a table \(::reviews\) or --query, not both"):
        open_(f"{tmp_path / 'r.db'}::reviews", query="SELECT 1")


@pytest.mark.slow
def test_many_rows_arrive_in_batches(tmp_path: Path) -> None:
    """Several batches of DuckDB are one sequence of rows."""
    with duckdb.connect(str(tmp_path / "r.db")) as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT 'text ' || i AS text, i % 2 AS label FROM range(5000) r(i)"
        )
    found = [(each.text, each.label) for each in open_(tmp_path / "r.db") if isinstance(each, Document)]
    assert found == [(f"text {n}", str(n % 2)) for n in range(5000)]


def test_a_locked_database_is_one_line(tmp_path: Path) -> None:
    """Whatever the database's own error is, the line is about the file."""
    (tmp_path / "r.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 4000)
    with pytest.raises(DataError, match=r"^r.db can't be read: [^\n]+$"):
        open_(tmp_path / "r.db")
