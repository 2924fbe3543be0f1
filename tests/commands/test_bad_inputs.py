"""A hundred mistakes on the command line: each gives one line, and loses nothing."""

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pytest
import tiny
from bad_inputs import Case, cut, gone
from command_line import attnstore

ROOT = Path(__file__).parents[2]


GOOD = "id,label,text\n1,pos,good film\n2,neg,bad film\n"
JSONL = '{"text": "good", "label": "pos"}\n'

#: name: (the arguments, made from a Case; a part of the error line)
BAD = {
  # data that is missing or empty
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
  # damaged data
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
    "texts all in latin-1": (lambda c: c.run(c.file("a.csv", b"text,label\n\xe9\xe8,pos\n\xe9,neg\n")), "--encoding cp1252"),
    "a file of an unknown kind": (lambda c: c.run(c.file("a.docx", "words")), "a.docx"),
    "bad row with --strict": (lambda c: c.run(c.file("a.jsonl", JSONL + "{\n"), "--strict"), "row 2"),
    "bad label with --strict": (
        lambda c: c.run(c.file("a.csv", GOOD + "3,meh,film\n"), "--strict", "--labels", "neg=neg,pos=pos"), "meh",
    ),
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
    "reduction twice": (lambda c: c.run(c.reviews, "--reduce", "cls,cls"), "is listed twice"),
    "reduction beyond the last token": (
        lambda c: c.run(c.reviews, "--reduce", "from_40", "--max-length", "40"), "from_40: documents are cut at 40 tokens",
    ),
    "custom module missing": (lambda c: c.run(c.reviews, "--reduce", "no.such:thing"), "can't import no.such"),
    "custom function missing": (lambda c: c.run(c.reviews, "--reduce", "json:nope"), "has no function 'nope'"),
    "custom function unfit": (lambda c: c.run(c.reviews, "--reduce", "json:dumps"), "must be called `document`"),
    "store left out": (lambda c: ["run", "--data", c.reviews], "name the store to write"),
    "model of no name": (lambda c: c.run(c.reviews, "--model", ""), "--model is empty"),
    "data of no name": (lambda c: c.run(""), "--data is empty"),
    "labels of another number": (lambda c: c.run(c.reviews, "--labels", "a,b,c"), "labels"),
    # places for a store
    "store is a file": (lambda c: c.run(c.reviews, store=c.file("s.attn", "x")), "s.attn"),
    "store is another folder": (lambda c: c.run(c.reviews, store=c.file("full/x.txt", "x").parent), "full"),
    "store below a file": (lambda c: c.run(c.reviews, store=c.file("s", "x") / "s.attn"), "s"),
    "store on a read-only disk": (lambda c: c.run(c.reviews, store="/proc/attnstore.attn"), "/proc/attnstore.attn"),
    "store of another run": (lambda c: c.run(c.reviews, "--max-length", "20", store=c.copy()), "max_length is 40 in the store"),
  # folders that are not stores, or damaged stores
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
        lambda c: ["verify", c.store, "--model", c.tmp / "nope"], "nope: --sample 0 checks only the files",
    ),
    "verify with the model gone": (lambda c: ["verify", c.manifest(model=str(c.tmp / "nope"))], "nope: give its new place"),
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


@pytest.mark.sampled(3)
@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_is_one_line_and_loses_nothing(name, small_store, tiny_model, reviews, tmp_path):
    """One line on stderr that names the problem, exit code 1 or 2, and nothing on disk that looks finished."""
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
