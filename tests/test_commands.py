"""The command line: what each command prints, and a hundred ways of getting it wrong."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import click
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import torch
import transformers
from click.testing import CliRunner

from attnstore import commands

ROOT = Path(__file__).parents[1]


def attnstore(*arguments, cwd=None):
    """(exit code, stdout, stderr) of a command, run in this process."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(cwd or Path.cwd()))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        with pytest.raises(SystemExit) as ended:
            commands.main([str(a) for a in arguments])
    return ended.value.code or 0, out.buffer.getvalue().decode(), err.getvalue()


def run(store, data, model, *more):
    return attnstore(
        "run", store, "--data", data, "--model", model, "--device", "cpu", "--dtype", "float32", *more
    )


# ---------------------------------------------------------------- what the commands print


def test_run_ends_with_a_summary_and_the_next_commands(tiny_model, reviews, tmp_path):
    """Documents, tokens, accuracy, the top words of each class and what to type next, on stdout."""
    store = tmp_path / "s.attn"
    code, out, err = run(store, reviews, tiny_model, "--max-length", "40", "--part-size", "20")
    assert code == 0
    tokens = pl.read_parquet(store / "tokens", hive_partitioning=True)
    documents = pl.read_parquet(store / "documents", hive_partitioning=True)
    correct = (documents["label"] == documents["prediction"]).sum()
    lines = out.splitlines()
    assert re.fullmatch(
        rf"60 documents, {len(tokens):,} tokens in [\d.]+ s \([\d,]+ tokens/s\); {store} is sealed with 60 documents",
        lines[0],
    )
    assert lines[1] == f"{documents['truncated'].sum()} documents were cut at 40 tokens"
    assert lines[2] == f"accuracy {correct / 60:.5f} ({correct} of 60)"
    assert lines[-5:] == [
        "next:",
        f"  attnstore query {store} top_words_by_class",
        f"  attnstore show {store} 0",
        f"  attnstore info {store}",
        "  attnstore queries",
    ]
    assert "note: the text column is" not in out  # notes go to stderr
    assert "documents" in err  # the progress bar


def test_the_next_commands_can_be_copied_and_one_is_one(tiny_model, tmp_path):
    """A store with a blank in its name is quoted; one document, cut, is not `1 documents`."""
    data = tmp_path / "one.csv"
    data.write_text(f"text,label\n{'good ' * 50},pos\n")
    code, out, _ = run(tmp_path / "my store", data, tiny_model, "--max-length", "40")
    assert code == 0
    assert f"  attnstore show '{tmp_path / 'my store'}' 0\n" in out
    assert out.startswith("1 document, 40 tokens in ")
    assert out.splitlines()[0].endswith("is sealed with 1 document")
    assert out.splitlines()[1] == "1 document was cut at 40 tokens"


def test_run_again_on_a_finished_store_says_so(tiny_model, reviews, tmp_path):
    """Nothing is done twice, and the summary says why it was so quick."""
    store = tmp_path / "s.attn"
    run(store, reviews, tiny_model, "--max-length", "40")
    code, out, _ = run(store, reviews, tiny_model, "--max-length", "40")
    assert (code, out.splitlines()[0]) == (0, f"{store} was finished before: 60 documents")


def test_reductions_add_up_whether_listed_or_repeated(tiny_model, reviews, tmp_path):
    """`--reduce a,b --reduce c` stores all three; none is dropped in silence."""
    code, _, _ = run(
        tmp_path / "s.attn",
        reviews,
        tiny_model,
        "--limit",
        "4",
        "--reduce",
        "rollout,from_2",
        "--reduce",
        "cls",
    )
    assert code == 0
    columns = pl.scan_parquet(tmp_path / "s.attn" / "tokens").collect_schema().names()
    stored = [name for name in columns if re.match("rollout|from_|cls|received", name)]
    assert stored == ["rollout", *(f"from_2_0{i}" for i in (1, 2, 3)), *(f"cls_0{i}" for i in (1, 2, 3))]


def test_an_interrupt_says_how_to_go_on_and_exits_130(tiny_model, reviews, tmp_path):
    """SIGINT in a real process: the part in hand is finished, stderr says what is missing, and 130."""
    import signal

    slowed = (
        "import sys, time; from attnstore import classifier, commands; call = classifier.Classifier.__call__\n"
        "def slow(self, batch):\n    print('batch', flush=True); time.sleep(0.3); return call(self, batch)\n"
        "classifier.Classifier.__call__ = slow; commands.main(sys.argv[1:])"
    )
    child = subprocess.Popen(
        [
            *(sys.executable, "-c", slowed, "run", str(tmp_path / "s.attn"), "--data", str(reviews)),
            *("--model", str(tiny_model), "--part-size", "10", "--max-length", "40", "--device", "cpu"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert re.search(
        r"attnstore: stopped; [1-5] of 6 parts are missing: the same command goes on$", err.strip()
    )
    code, out, _ = attnstore("info", tmp_path / "s.attn")
    assert code == 0
    assert re.search(r"^state: +unsealed: [1-5] of 6 parts", out, re.MULTILINE)


def test_query_answers_in_every_format_and_to_a_file(small_store, tmp_path):
    """CSV, JSON and Parquet hold the same rows; markdown and table show them rounded."""
    ask = ("query", small_store, "top_tokens_by_class", "-p", "limit=3", "-p", "min_documents=2")
    answers = {form: attnstore(*ask, "--format", form) for form in ("csv", "json", "markdown", "table")}
    assert [code for code, _, _ in answers.values()] == [0, 0, 0, 0]
    rows = json.loads(answers["json"][1])
    assert len(rows) == 6
    assert pl.read_csv(io.StringIO(answers["csv"][1]), null_values=[""]).rows(named=True) == rows
    attnstore(*ask, "--format", "parquet", "-o", tmp_path / "answer.parquet")
    assert pq.read_table(tmp_path / "answer.parquet").to_pylist() == rows
    assert answers["markdown"][1].startswith("| class ")
    assert rows[0]["token"] in answers["table"][1]


def test_both_engines_print_the_same_answer(small_store):
    """The twins agree down to the printed digits."""
    ask = ("query", small_store, "top_words_by_class", "-p", "min_documents=2", "--format", "table")
    assert attnstore(*ask, "--engine", "duckdb")[1] == attnstore(*ask, "--engine", "polars")[1] != ""


def test_a_word_that_no_document_has_is_noted(small_store):
    """The answer is empty as asked; stderr says why, and which spelling there is."""
    for word, note in (
        ("GREAT", "note: no document has the word 'GREAT': 'great' is there\n"),
        ("nosuchword", "note: no document has the word 'nosuchword'\n"),
        ("great", ""),
    ):
        code, out, err = attnstore("query", small_store, "contexts", "-p", f"word={word}", "--format", "csv")
        assert (code, err) == (0, note)
        assert (out.count("\n") == 1) == bool(note)


def test_sql_reads_the_views(small_store):
    """`documents` and `tokens`, joined, with partition keys as columns."""
    code, out, _ = attnstore(
        "sql", small_store, "--format", "csv",
        "select split, count(distinct document) as d, count(*) as n from tokens join documents using (document, split) group by all",
    )  # fmt: skip
    tokens = pl.read_parquet(small_store / "tokens", hive_partitioning=True)
    assert (code, out) == (0, f"split,d,n\nall,60,{len(tokens)}\n")


def test_queries_lists_and_documents_every_question():
    """Each shipped question by name with its parameters; one by name, whole."""
    code, out, _ = attnstore("queries")
    stems = sorted(p.stem for p in (ROOT / "queries").glob("*.sql"))
    assert code == 0
    assert "\n    by: prediction|label, default prediction: " in out
    assert "\n    renormalise: boolean, default false: " in out
    for stem in stems:
        assert re.search(rf"^{stem}: ", out, re.MULTILINE)
        code, documented, _ = attnstore("queries", stem)
        assert code == 0
        assert stem in documented


def test_a_folder_of_your_own_questions_is_asked_like_ours(small_store, tmp_path):
    """`--queries DIR` finds, documents and binds a user's own SQL."""
    (tmp_path / "longest.sql").write_text(
        "-- Which documents are longest?\n--\n-- @param limit: count = 2 -- how many\n"
        "SELECT id, length FROM documents ORDER BY length DESC, document LIMIT $limit\n"
    )
    code, out, _ = attnstore(
        "query", small_store, "longest", "--queries", tmp_path, "--format", "csv", "-p", "limit=1"
    )
    assert (code, out) == (0, "id,length\nr7,40\n")
    assert "longest: Which documents are longest?" in attnstore("queries", "--queries", tmp_path)[1]
    code, out, _ = attnstore("queries", "--queries", tmp_path, "longest")
    assert (code, out) == (
        0,
        "longest\n\nWhich documents are longest?\n\nParameters:\n  limit: count, default 2\n      how many\n\n"
        "Engines: duckdb\n",
    )


def test_your_own_question_may_not_take_the_name_of_ours_nor_lack_its_comment(small_store, tmp_path):
    """One line that names the file, whether it is asked or listed, and whichever question is asked."""
    for name, text, wrong in (
        ("heads", "-- Mine?\nSELECT 1\n", r"there is a question heads already, .*heads\.sql: rename one"),
        ("mine", "SELECT 1\n", "has to begin with a comment, its first line the question"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.sql").write_text(text)
        for command in (("queries",), ("queries", "predictions"), ("query", small_store, "predictions")):
            code, out, err = attnstore(*command, "--queries", folder)
            assert (code, out) == (2, "")
            assert re.fullmatch(rf"attnstore: {re.escape(str(folder / name))}\.sql:? {wrong}\n", err)


def test_show_prints_a_document_by_id_or_number_and_writes_a_page(small_store, tmp_path):
    """Plain where there is no terminal; `--html` writes a page that holds the same text."""
    by_id, by_number = attnstore("show", small_store, "r1"), attnstore("show", small_store, "1")
    assert by_id[0] == by_number[0] == 0
    assert by_id[1] == by_number[1]
    assert by_id[1].startswith("r1\n")
    assert "\x1b[" not in by_id[1]
    code, out, _ = attnstore(
        "show", small_store, "r1", "--html", tmp_path / "r1.html", "--words", "sum", "--layer", "mean"
    )
    assert (code, out) == (0, f"wrote {tmp_path / 'r1.html'}\n")
    assert (tmp_path / "r1.html").read_text().startswith("<!doctype html>")


def test_show_obeys_the_colour_conventions(small_store, monkeypatch):
    """FORCE_COLOR colours a pipe, NO_COLOR wins over it."""
    monkeypatch.setenv("FORCE_COLOR", "3")
    assert ";48;2;" in attnstore("show", small_store, "r1")[1]
    dark, light = (attnstore("show", small_store, "r1", "--background", b)[1] for b in ("dark", "light"))
    assert dark != light
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in attnstore("show", small_store, "r1")[1]


def test_info_tells_a_sealed_store_in_text_and_in_json(small_store):
    """What stands in the manifest is what is printed."""
    code, out, _ = attnstore("info", small_store)
    assert code == 0
    assert re.search(r"^state: +sealed ", out, re.MULTILINE)
    assert re.search(r"^documents: +60 of 60$", out, re.MULTILINE)
    assert re.search(r"^reduction: +cls_01 … cls_03: attention from the first token", out, re.MULTILINE)
    assert json.loads(attnstore("info", small_store, "--format", "json")[1])["documents"] == 60


def test_verify_passes_a_sound_store_and_fails_a_damaged_one(small_store, tmp_path):
    """Files, parts and a recomputed sample are each a line; one flipped bit is a fault and exit code 1."""
    code, out, _ = attnstore("verify", small_store, "--sample", "5")
    assert code == 0
    assert "FAULT" not in out
    assert re.search(r"^ok +rollout recomputed: worst difference .* over 5 documents", out, re.MULTILINE)
    damaged = copied(small_store, tmp_path)
    file = next((damaged / "tokens").rglob("*.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    code, out, err = attnstore("verify", damaged)
    assert code == 1
    assert "FAULT" in out
    assert err == f"attnstore: {damaged} has 1 fault\n"


def test_damage_in_a_file_is_told_as_the_stores_wherever_it_is(small_store, tmp_path):
    """A byte flipped anywhere: the answer is the same as before, or exit 1, the store's name and `verify`."""
    ask = ("query", small_store, "top_tokens_by_class", "-p", "min_documents=2", "--format", "csv")
    _, sound, _ = attnstore(*ask)
    refused = 0
    for place in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        damaged = copied(small_store, tmp_path / str(place))
        for file in (damaged / "tokens").rglob("*.parquet"):
            flipped(file, place)
        code, out, err = attnstore(ask[0], damaged, *ask[2:])
        if code:
            assert code == 1, err
            assert err.startswith(f"attnstore: can't read {damaged}: ")
            assert err.endswith("`attnstore verify` tells what is damaged\n")
        refused += bool(code)
        assert code or out.count(",") == sound.count(",")
    assert refused


def test_verify_reads_the_files_alone_where_the_model_is_gone(small_store, tmp_path):
    """Without a sample no model is wanted; with one, a missing model is told before anything is read."""
    case = Case(tmp_path, small_store, None, None)
    store = case.manifest(model=str(tmp_path / "nope"))
    assert attnstore("verify", store, "--sample", "0")[0] == 0
    code, out, _ = attnstore("verify", store)
    assert (code, out) == (1, "")


def test_verify_says_when_stored_values_are_not_the_models(small_store, tmp_path):
    """Values changed together with their hashes pass the files' checks, and fail against the oracle."""
    from attnstore.store.manifest import Manifest

    forged = copied(small_store, tmp_path)
    manifest = Manifest.from_json((forged / "manifest.json").read_text())
    files = []
    for stored in manifest.files:
        path = forged / stored.path
        table = pq.read_table(path, partitioning=None)
        pairs = [(f"cls_01{kind}", f"cls_02{kind}") for kind in ("", "_lift", "_entropy")]
        swapped = {
            name: table[other]
            for a, b in pairs
            if a in table.column_names
            for name, other in ((a, b), (b, a))
        }
        for name, column in swapped.items():
            table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)
        pq.write_table(table, path)
        content = path.read_bytes()
        files.append(replace(stored, bytes=len(content), sha256=hashlib.sha256(content).hexdigest()))
    (forged / "manifest.json").write_text(replace(manifest, files=tuple(files)).to_json())
    code, out, _ = attnstore("verify", forged)
    assert code == 1
    assert re.search(r"^FAULT cls recomputed: worst difference", out, re.MULTILINE)
    assert re.search(r"^ok +received recomputed", out, re.MULTILINE)


def test_every_command_has_a_help_text_that_says_what_it_does():
    """--help of the group and of each command, from the real entry point."""
    for name, command in commands.attnstore.commands.items():
        result = CliRunner().invoke(commands.attnstore, [name, "--help"])
        assert result.exit_code == 0
        assert (command.help or "").strip()
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name not in ("device", "form", "engine"):
                assert parameter.help, f"{name} {parameter.name}"


def test_the_version_is_printed_without_loading_anything():
    """`attnstore --version` is the package's."""
    from attnstore import __version__

    assert attnstore("--version") == (0, f"attnstore, version {__version__}\n", "")


def test_a_closed_pipe_ends_quietly(small_store):
    """`attnstore query … | head -1` prints one line and no traceback."""
    command = f"{sys.executable} -m attnstore.commands query {small_store} document_tokens -p document=r7 --format csv | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.startswith("position,token,")
    assert "Traceback" not in done.stderr


def test_six_classes_go_through_finetune_run_and_query_without_a_special_case(tmp_path):
    """Names with spaces, a slash and an accent: learnt, stored, and asked for, each word found in its own class."""
    torch.manual_seed(0)
    encoder = transformers.AutoModel.from_config(tiny.settings("bert", initializer_range=0.1))
    encoder.save_pretrained(tmp_path / "encoder")
    tiny.tokenizer().save_pretrained(tmp_path / "encoder")
    telling = {
        "glad": "great",
        "sad": "awful",
        "Odd / strange": "boring",
        "calm": "good",
        "angry": "bad",
        "été": "fun",
    }
    rows = ["text,label"]
    for number in range(240):
        label, word = list(telling.items())[number % 6]
        rows.append(f'the film {"was " * (number % 5)}{word} plot,"{label}"')
    data = tmp_path / "six.csv"
    data.write_text("\n".join(rows) + "\n")
    code, out, err = attnstore(
        *(
            "finetune",
            tmp_path / "model",
            "--model",
            tmp_path / "encoder",
            "--data",
            data,
            "--epochs",
            "8",
            "--device",
            "cpu",
        ),
        *("--learning-rate", "3e-3", "--max-length", "32", "--dtype", "float32"),
    )
    assert code == 0, err
    assert "6 classes (Odd / strange, angry, calm, glad, sad, été)" in out
    code, out, err = run(tmp_path / "six.attn", data, tmp_path / "model", "--max-length", "32")
    assert code == 0, err
    assert "accuracy 1.00000 (240 of 240)" in out
    code, out, _ = attnstore(
        *(
            "query",
            tmp_path / "six.attn",
            "top_tokens_by_class",
            "-p",
            "by=label",
            "-p",
            "limit=50",
            "--format",
            "json",
        ),
    )
    assert code == 0
    found = {(row["class"], row["token"]): row["occurrences"] for row in json.loads(out)}
    assert {key: n for key, n in found.items() if key[1] in telling.values()} == dict.fromkeys(
        telling.items(), 40
    )


# ---------------------------------------------------------------- a hundred bad inputs


class Case:
    """The places that a bad input is made from."""

    def __init__(self, tmp, store, model, reviews):
        self.tmp, self.store, self.model, self.reviews = tmp, store, model, reviews

    def file(self, name, content):
        path = self.tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def run(self, data, *more, model=None, store=None):
        return [
            "run",
            store or self.tmp / "new.attn",
            "--data",
            data,
            "--model",
            model or self.model,
            "--device",
            "cpu",
            *more,
        ]

    def copy(self):
        return copied(self.store, self.tmp)

    def manifest(self, **changes):
        store = self.copy()
        raw = json.loads((store / "manifest.json").read_text()) | changes
        (store / "manifest.json").write_text(json.dumps(raw))
        return store

    def tar(self, name="a.tar.gz", member="train/pos/1.txt", link=None):
        path = self.tmp / name
        with tarfile.open(path, "w:gz") as archive:
            info = tarfile.TarInfo(member)
            if link:
                info.type, info.linkname = tarfile.SYMTYPE, link
                archive.addfile(info)
            else:
                info.size = 4
                archive.addfile(info, io.BytesIO(b"good"))
        return path

    def zip(self, member):
        path = self.tmp / "a.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, "good")
        return path

    def parquet(self, **columns):
        path = self.tmp / "data.parquet"
        pq.write_table(pa.table(columns), path)
        return path

    def tokens_file(self, store):
        return next((store / "tokens").rglob("*.parquet"))


def copied(store, tmp):
    target = tmp / "copy.attn"
    shutil.copytree(store, target)
    return target


def cut(path, share=0.5):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def flipped(path, place=0.5):
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 0xFF
    path.write_bytes(content)
    return path


def gone(path):
    path.unlink()
    return path


GOOD = "id,label,text\n1,pos,good film\n2,neg,bad film\n"
JSONL = '{"text": "good", "label": "pos"}\n'

#: name: (the arguments, made from a Case; what the line must say)
BAD = {
    # data that is not there, or nothing
    "no such file": (lambda c: c.run(c.tmp / "nope.csv"), "nope.csv"),
    "no such folder": (lambda c: c.run(c.tmp / "no/where/"), "no/where"),
    "glob without match": (lambda c: c.run(c.tmp / "*.csv"), "*.csv"),
    "empty csv": (lambda c: c.run(c.file("a.csv", "")), "a.csv"),
    "csv with a header alone": (lambda c: c.run(c.file("a.csv", "id,label,text\n")), "no document"),
    "empty jsonl": (lambda c: c.run(c.file("a.jsonl", "")), "a.jsonl"),
    "empty parquet": (lambda c: c.run(c.file("a.parquet", b"")), "a.parquet"),
    "parquet without rows": (lambda c: c.run(c.parquet(text=pa.array([], pa.string()))), "no document"),
    "empty tsv": (lambda c: c.run(c.file("a.tsv", "\n\n")), "a.tsv"),
    "empty folder": (lambda c: c.run(c.file("void/.hidden", "").parent), "void"),
    "folder of pictures": (lambda c: c.run(c.file("pics/a.png", b"\x89PNG").parent), "pics"),
    "empty archive": (lambda c: c.run(c.file("a.tar.gz", b"")), "a.tar.gz"),
    "empty zip": (lambda c: c.run(c.file("a.zip", b"")), "a.zip"),
    # data that is broken
    "binary in csv": (lambda c: c.run(c.file("a.csv", bytes(range(256)) * 40)), "a.csv"),
    "nul bytes in csv": (lambda c: c.run(c.file("a.csv", "text,label\n\0\0\0,pos\n")), "a.csv"),
    "binary in jsonl": (lambda c: c.run(c.file("a.jsonl", os.urandom(2000))), "a.jsonl"),
    "binary in parquet": (lambda c: c.run(c.file("a.parquet", os.urandom(2000))), "a.parquet"),
    "truncated parquet": (lambda c: c.run(cut(c.parquet(text=["a"] * 99))), "data.parquet"),
    "truncated gzip": (lambda c: c.run(cut(c.file("a.csv.gz", gzip.compress(os.urandom(9000).hex().encode())))), "a.csv.gz"),
    "not gzip": (lambda c: c.run(c.file("a.csv.gz", b"\x1f\x8b" + bytes(99))), "a.csv.gz"),
    "not zstd": (lambda c: c.run(c.file("a.csv.zst", b"\x28\xb5\x2f\xfd" + bytes(99))), "a.csv.zst"),
    "truncated archive": (lambda c: c.run(cut(c.tar())), "a.tar.gz"),
    "broken zip": (lambda c: c.run(c.file("a.zip", b"PK\x03\x04" + bytes(99))), "a.zip"),
    "archive with a ../ member": (lambda c: c.run(c.tar(member="../pos/1.txt")), "../pos/1.txt"),
    "archive with an absolute member": (lambda c: c.run(c.tar(member="/etc/pos/1.txt")), "/etc/pos/1.txt"),
    "archive of a link alone": (lambda c: c.run(c.tar(member="train/pos/1.txt", link="/etc/passwd")), "a link"),
    "zip with a ../ member": (lambda c: c.run(c.zip("../pos/1.txt")), "../pos/1.txt"),
    "archive without texts": (lambda c: c.run(c.tar(member="readme.md")), "a.tar.gz"),
    "jsonl of lists": (lambda c: c.run(c.file("a.jsonl", "[1]\n[2]\n")), "a.jsonl"),
    "jsonl that is json": (lambda c: c.run(c.file("a.jsonl", "[\n{\n}\n]\n")), "a.jsonl"),
    "jsonl of broken lines": (lambda c: c.run(c.file("a.jsonl", '{"text": \n{"tex\n')), "a.jsonl"),
    "texts all missing": (lambda c: c.run(c.file("a.jsonl", '{"text": null}\n{"text": null}\n')), "2 text missing"),
    "texts all in latin-1": (lambda c: c.run(c.file("a.csv", b"text,label\n\xe9\xe8,pos\n\xe9,neg\n")), "2 not UTF-8"),
    "a file of an unknown kind": (lambda c: c.run(c.file("a.docx", "words")), "a.docx"),
    "bad row with --strict": (lambda c: c.run(c.file("a.jsonl", JSONL + "{\n"), "--strict"), "row 2"),
    "bad label with --strict": (lambda c: c.run(c.file("a.csv", GOOD + "3,meh,film\n"), "--strict"), "meh"),
    "only unreadable labels": (lambda c: c.run(c.file("a.csv", GOOD), "--labels", "good,awful,meh"), "--labels"),
    # columns and splits
    "no text column": (lambda c: c.run(c.file("a.csv", "x,y\n1,2\n")), "--text-column"),
    "unknown text column": (lambda c: c.run(c.file("a.csv", GOOD), "--text-column", "tekst"), "tekst"),
    "unknown label column": (lambda c: c.run(c.file("a.csv", GOOD), "--label-column", "lable"), "label"),
    "unknown id column": (lambda c: c.run(c.file("a.csv", GOOD), "--id-column", "key"), "key"),
    "unknown group column": (lambda c: c.run(c.file("a.csv", GOOD), "--group-column", "film"), "film"),
    "one column for text and label": (
        lambda c: c.run(c.file("a.csv", GOOD), "--label-column", "text"), "can't be both the text and the label",
    ),
    "a split that the column has not": (
        lambda c: c.run(c.file("a.csv", "text,label,split\na,pos,train\n"), "--split", "tset"), "it has train",
    ),
    "columns of a folder": (lambda c: c.run(c.tar(), "--text-column", "text"), "text"),
    "numbers for texts": (lambda c: c.run(c.parquet(text=[[1], [2]])), "text"),
    "unknown split": (lambda c: c.run(c.tar(), "--split", "tset"), "tset"),
    # places
    "hub path without a dataset": (lambda c: c.run("hf://datasets"), "hf://datasets"),
    "hub out of reach": (lambda c: c.run("hf://datasets/nobody/nothing/a.csv"), "hf://datasets/nobody/nothing/a.csv"),
    "a url": (lambda c: c.run("https://example.invalid/a.csv"), "https://example.invalid/a.csv"),
    "a very long path": (lambda c: c.run("x" * 5000), "x"),
    "a path with a nul": (lambda c: c.run("a\0b"), "a"),
    "a path with a line feed": (lambda c: c.run("a\nb.csv"), "b.csv"),
    # models
    "no such model": (lambda c: c.run(c.reviews, model=c.tmp / "nope"), "there is no model folder"),
    "model on a hub out of reach": (lambda c: c.run(c.reviews, model="nobody/nothing"), "hub can't be reached"),
    "model name that can't be": (lambda c: c.run(c.reviews, model="a b!"), "neither a folder nor the name of a hub model"),
    "model is a file": (lambda c: c.run(c.reviews, model=c.file("m.bin", b"x")), "there is no model folder"),
    "model folder is empty": (lambda c: c.run(c.reviews, model=c.tmp), "without config.json"),
    "model of broken json": (lambda c: c.run(c.reviews, model=c.file("m/config.json", "{").parent), "config.json"),
    "model without classes": (
        lambda c: c.run(c.reviews, model=c.file("m/config.json", '{"model_type": "bert"}').parent), "no classification head",
    ),
    # options of a run
    "unknown option": (lambda c: c.run(c.reviews, "--modle", "x"), "--modle"),
    "unknown dtype": (lambda c: c.run(c.reviews, "--dtype", "int8"), "int8"),
    "unknown device": (lambda c: c.run(c.reviews, "--device", "tpu"), "tpu"),
    "limit of nothing": (lambda c: c.run(c.reviews, "--limit", "0"), "--limit"),
    "limit below nothing": (lambda c: c.run(c.reviews, "--limit", "-5"), "--limit"),
    "limit that is no number": (lambda c: c.run(c.reviews, "--limit", "ten"), "ten"),
    "parts of nothing": (lambda c: c.run(c.reviews, "--part-size", "0"), "--part-size"),
    "batches of nothing": (lambda c: c.run(c.reviews, "--batch-tokens", "0"), "--batch-tokens"),
    "length without room": (lambda c: c.run(c.reviews, "--max-length", "2"), "leaves no room"),
    "length beyond the model": (lambda c: c.run(c.reviews, "--max-length", "9999"), "80 positions"),
    "unknown reduction": (lambda c: c.run(c.reviews, "--reduce", "clss"), "no reduction 'clss'"),
    "no reduction": (lambda c: c.run(c.reviews, "--reduce", ""), "no reduction ''"),
    "reduction twice": (lambda c: c.run(c.reviews, "--reduce", "cls,cls"), "asked for twice"),
    "reduction beyond the last token": (
        lambda c: c.run(c.reviews, "--reduce", "from_40", "--max-length", "40"), "from_40: documents are cut at 40 tokens",
    ),
    "custom module missing": (lambda c: c.run(c.reviews, "--reduce", "no.such:thing"), "can't import no.such"),
    "custom function missing": (lambda c: c.run(c.reviews, "--reduce", "json:nope"), "has no function 'nope'"),
    "custom function unfit": (lambda c: c.run(c.reviews, "--reduce", "json:dumps"), "must be called `document`"),
    "store left out": (lambda c: ["run", "--data", c.reviews], "say where the store goes"),
    "model of no name": (lambda c: c.run(c.reviews, "--model", ""), "--model is empty"),
    "data of no name": (lambda c: c.run(""), "--data is empty"),
    "labels of another number": (lambda c: c.run(c.reviews, "--labels", "a,b,c"), "labels"),
    # places for a store
    "store is a file": (lambda c: c.run(c.reviews, store=c.file("s.attn", "x")), "s.attn"),
    "store is another folder": (lambda c: c.run(c.reviews, store=c.file("full/x.txt", "x").parent), "full"),
    "store below a file": (lambda c: c.run(c.reviews, store=c.file("s", "x") / "s.attn"), "s"),
    "store on a read-only disk": (lambda c: c.run(c.reviews, store="/proc/attnstore.attn"), "/proc/attnstore.attn"),
    "store of another run": (lambda c: c.run(c.reviews, "--max-length", "20", store=c.copy()), "max_length is 40 in the store"),
    # stores that are none, or damaged
    "no such store": (lambda c: ["info", c.tmp / "nope"], "nope does not exist"),
    "a file for a store": (lambda c: ["query", c.reviews, "predictions"], "is a file, not a store"),
    "a folder for a store": (lambda c: ["info", c.tmp], "is not a store"),
    "broken manifest": (lambda c: ["info", c.file("s/manifest.json", "{").parent], "damaged or foreign"),
    "manifest of a list": (lambda c: ["info", c.file("s/manifest.json", "[]").parent], "damaged or foreign"),
    "binary manifest": (lambda c: ["info", c.file("s/manifest.json", b"\xff\xfe\x00").parent], "damaged or foreign"),
    "manifest of the future": (lambda c: ["info", c.manifest(schema_version=99)], "schema version 99"),
    "manifest with a field too many": (lambda c: ["info", c.manifest(surprise=1)], "damaged"),
    "manifest with a field too few": (lambda c: ["info", c.manifest(documents=None)], "documents can't be null"),
    "manifest of a word for a number": (lambda c: ["info", c.manifest(layers="three")], 'layers can\'t be "three"'),
    "manifest of a list of words": (lambda c: ["verify", c.manifest(reductions=["cls"])], "reductions can't be"),
    "manifest of half a reduction": (lambda c: ["show", c.manifest(reductions=[{"name": "cls"}]), "r1"], "reductions can't be"),
    "manifest without reductions": (lambda c: ["show", c.manifest(reductions=[]), "r1"], "holds no reduction"),
    "manifest without labels": (lambda c: ["query", c.manifest(labels=None), "predictions"], "labels can't be null"),
    "manifest of parts of nothing": (lambda c: ["info", c.manifest(part_size=0)], "part_size can't be 0"),
    "manifest of another kind of file": (lambda c: ["info", c.manifest(files=[{"path": 3}])], "files can't be"),
    "truncated part": (lambda c: ["query", cut(c.tokens_file(c.copy())).parents[3], "top_tokens_by_class"], "parquet"),
    "missing part": (lambda c: ["query", gone(c.tokens_file(c.copy())).parents[3], "top_tokens_by_class"], "parquet"),
    "binary part": (
        lambda c: ["sql", c.file("copy.attn/x", "") and c.store, "select * from read_parquet('/etc/passwd')"], "/etc/passwd",
    ),
    "verify a truncated part": (lambda c: ["verify", cut(c.tokens_file(c.copy())).parents[3]], "1 fault"),
    "verify with a model that is not there": (
        lambda c: ["verify", c.store, "--model", c.tmp / "nope"], "nope: --sample 0 checks the files alone",
    ),
    "verify with the model gone": (lambda c: ["verify", c.manifest(model=str(c.tmp / "nope"))], "nope: --model says where"),
    "verify with another model": (
        lambda c: ["verify", c.store, "--model", tiny.save(c.tmp / "other", seed=1)], "other is not the run's model",
    ),
    # questions
    "unknown question": (lambda c: ["query", c.store, "top_token_by_class"], "top_tokens_by_class"),
    "unknown parameter": (lambda c: ["query", c.store, "top_tokens_by_class", "-p", "layr=2"], "layer"),
    "parameter without a value": (lambda c: ["query", c.store, "top_tokens_by_class", "-p", "layer"], "name=value"),
    "class there is not": (
        lambda c: ["query", c.store, "find_documents", "-p", "prediction=positive"], "the model's classes are neg, pos",
    ),
    "parameter twice": (
        lambda c: ["query", c.store, "top_tokens_by_class", "-p", "limit=1", "-p", "limit=2"], "limit is given twice",
    ),
    "parameter of another kind": (lambda c: ["query", c.store, "top_tokens_by_class", "-p", "limit=many"], "limit"),
    "parameter left out": (lambda c: ["query", c.store, "document_tokens"], "document"),
    "layer there is not": (lambda c: ["query", c.store, "top_tokens_by_class", "-p", "layer=9"], "layer"),
    "reduction not stored": (lambda c: ["query", c.store, "top_tokens_by_class", "-p", "reduction=from_3"], "from_3"),
    "reduction that is an injection": (
        lambda c: ["query", c.store, "top_tokens_by_class", "-p", 'reduction=cls_01" from tokens; --'], "reduction",
    ),
    "unknown format": (lambda c: ["query", c.store, "predictions", "--format", "xml"], "xml"),
    "unknown engine": (lambda c: ["query", c.store, "predictions", "--engine", "spark"], "spark"),
    "no folder of questions": (lambda c: ["queries", "--queries", c.tmp / "nope"], "nope"),
    "a question that is no sql": (lambda c: ["queries", "--queries", c.file("q/bad.sql", "select 1").parent], "bad"),
    "answer into no folder": (lambda c: ["query", c.store, "predictions", "-o", c.tmp / "no/a.csv"], "no/a.csv"),
    "answer into a folder": (lambda c: ["query", c.store, "predictions", "-o", c.tmp], "directory"),
    "nested rows into csv": (lambda c: ["sql", c.store, "select logits from documents", "--format", "csv"], "logits"),
    # sql
    "sql of two columns of one name": (lambda c: ["sql", c.store, "select 1 as a, 2 as a"], "two columns are called a"),
    "sql of an interval": (lambda c: ["sql", c.store, "select interval 1 day as i"], "i::VARCHAR"),
    "sql with an error": (lambda c: ["sql", c.store, "selec 1"], "selec"),
    "sql without a statement": (lambda c: ["sql", c.store, ""], "statement"),
    "sql of two statements": (lambda c: ["sql", c.store, "select 1; select 2"], "one"),
    "sql of an unknown column": (lambda c: ["sql", c.store, "select tken from tokens"], "tken"),
    "sql that writes": (lambda c: ["sql", c.store, "create table t as select 1"], "SELECT"),
    "sql that copies": (lambda c: ["sql", c.store, "copy documents to '/tmp/attnstore-leak.csv'"], "SELECT"),
    "sql that reads elsewhere": (lambda c: ["sql", c.store, "select * from read_text('/etc/passwd')"], "read_text"),
    "sql that changes settings": (lambda c: ["sql", c.store, "set enable_external_access = true"], "SELECT"),
    # show
    "no such document": (lambda c: ["show", c.store, "r999x"], "r999x"),
    "document beyond the last": (lambda c: ["show", c.store, "60"], "60"),
    "document of a layer there is not": (lambda c: ["show", c.store, "r1", "--layer", "top"], "top"),
    "document of a reduction there is not": (lambda c: ["show", c.store, "r1", "--reduction", "cl"], "cls"),
    "page into no folder": (lambda c: ["show", c.store, "r1", "--html", c.tmp / "no/r1.html"], "no/r1.html"),
    "unknown command": (lambda c: ["shwo", c.store], "show"),
}  # fmt: skip


def test_the_table_holds_a_hundred_bad_inputs():
    assert len(BAD) >= 100


@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_is_one_line_and_loses_nothing(name, small_store, tiny_model, reviews, tmp_path):
    """One line on stderr that names the trouble, exit code 1 or 2, nothing on disk that looks finished."""
    make, message = BAD[name]
    before = {p: p.read_bytes() for p in small_store.rglob("*") if p.is_file()}
    code, _, err = attnstore(*make(Case(tmp_path, small_store, tiny_model, reviews)), cwd=tmp_path)
    assert code in (1, 2), err
    lines = [line for line in err.splitlines() if line.strip() and not line.startswith("note: ")]
    assert len(lines) == 1, err
    assert lines[0].startswith("attnstore: ")
    assert message in lines[0]
    assert not (tmp_path / "new.attn").exists()
    assert {p: p.read_bytes() for p in small_store.rglob("*") if p.is_file()} == before


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 kB: enough for a part or two."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small tmpfs can't be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_one_line_and_keeps_the_finished_parts(small_disk, tiny_model, tmp_path):
    """The store on a disk that fills up: what was written stays readable, and a run elsewhere is whole."""
    from conftest import write_reviews

    data = write_reviews(tmp_path / "many.csv", 900)
    code, _, err = run(small_disk / "s.attn", data, tiny_model, "--part-size", "50", "--max-length", "40")
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith("attnstore: ")
    assert "space" in last.lower()
    assert "Traceback" not in err
    code, out, _ = attnstore("info", small_disk / "s.attn")
    assert code == 0
    assert int(re.search(r"unsealed: (\d+) of 18 parts", out)[1]) >= 1


def test_a_second_writer_is_refused_by_process_and_host(tiny_model, reviews, tmp_path):
    """While one process writes a store, another is told who does."""
    from attnstore.store.resume import create_or_resume
    from attnstore.store.store import open_store

    run(tmp_path / "s.attn", reviews, tiny_model, "--max-length", "40")
    manifest = open_store(tmp_path / "s.attn").manifest
    shutil.rmtree(tmp_path / "s.attn")
    with create_or_resume(tmp_path / "s.attn", manifest):
        code, _, err = run(tmp_path / "s.attn", reviews, tiny_model, "--max-length", "40")
    assert code == 1
    assert str(os.getpid()) in err
    assert socket.gethostname() in err
