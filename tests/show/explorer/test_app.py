"""The explorer's pages: contents, links, access, and the treatment of untrusted text."""

import re
import threading
from html import unescape
from html.parser import HTMLParser
from urllib.parse import quote, urljoin

import asked_store
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_store import manifest, tables
from starlette.testclient import TestClient

from attnstore.ask.answer import ask
from attnstore.ask.questions import find_questions
from attnstore.ask.scale import ninety_ninth
from attnstore.show.explorer.app import explorer
from attnstore.store.resume import create_or_resume
from attnstore.store.store import open_store

BASE = "http://127.0.0.1:8765"


class Links(HTMLParser):
    """The addresses in a page: links, parts that load later, and pictures."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found += [
            value for name, value in attributes if value and name in ("href", "src", "data-load", "srcset")
        ]


def client(*stores, **options) -> TestClient:
    return TestClient(explorer(stores, **options), base_url=BASE, follow_redirects=True)


@pytest.fixture(scope="module")
def documents():
    return asked_store.made_up_documents(60, splits=("test", "train"))


@pytest.fixture(scope="module")
def path(documents, tmp_path_factory):
    path = tmp_path_factory.mktemp("explorer") / "demo.attn"
    asked_store.write_store(path, documents)
    return path


@pytest.fixture(scope="module")
def web(path):
    with client(path) as opened:
        yield opened


def page(web, address, status=200) -> str:
    answer = web.get(address)
    assert answer.status_code == status, answer.text
    return answer.text


def text_of(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html))


@pytest.mark.slow
def test_every_link_leads_to_a_page_of_the_explorer(web):
    """All pages within three links from the first exist, and none is elsewhere."""
    seen, now = {"/"}, ["/"]
    for _ in range(3):
        further = []
        for address in now:
            answer = web.get(address)
            assert answer.status_code == 200, (address, answer.text)
            if "html" not in answer.headers["content-type"]:
                continue
            for link in Links(answer.text).found:
                absolute = urljoin(str(answer.url), link)
                assert absolute.startswith(BASE), link
                relative = absolute.removeprefix(BASE).partition("#")[0]
                kind = re.sub(r"\d+|=[^&]*", "", relative)  # one address of each kind is enough
                if kind not in seen and ".svg" not in relative and ".png" not in relative:
                    seen.add(kind)
                    further.append(relative)
        now = further
    assert {"/demo/sql", "/demo/words", "/demo/questions/confusion"} <= seen


@pytest.mark.slow
def test_the_overview_counts_correct_predictions(web, documents):
    """Accuracy, and each cell of the matrix, which links to that many documents."""
    shown = page(web, "/demo/")
    labelled = [d for d in documents if d["label"] is not None]
    right = sum(d["label"] == d["prediction"] for d in labelled)
    assert f"{right} of {len(labelled)} are right" in text_of(shown)
    assert '<a href="/demo/questions/errors">' in shown
    cells = re.findall(r'<td class="number"><a href="([^"]+)">(\d+)</a>', shown)
    assert len(cells) == 6  # two classes and no label, two predictions
    assert sum(int(count) for _, count in cells) == len(documents)
    for address, count in cells:
        assert f"<strong>{count} document" in page(web, unescape(address))


@pytest.mark.slow
def test_documents_are_listed_page_by_page(tmp_path):
    """Fifty per page. The link to the next page keeps the filter."""
    asked_store.write_store(tmp_path / "many.attn", asked_store.made_up_documents(120))
    with client(tmp_path / "many.attn") as web:
        first = page(web, "/many/documents?order=id")
        assert "120 documents" in first
        assert "page 1 of 3" in first
        (after,) = re.findall(r'rel="next" href="([^"]+)"', first)
        assert unescape(after) == "/many/documents?order=id&page=2"
        numbers = [
            int(n)
            for number in (1, 2, 3)
            for n in re.findall(r"number (\d+) ·", page(web, f"/many/documents?order=id&page={number}"))
        ]
        assert len(numbers) == 120
        assert numbers == sorted(range(120), key=lambda n: f"test/{n}")


def test_a_document_is_drawn_and_leads_to_its_neighbours(web, documents):
    """The heat-map of the chosen layer, and links to the previous and the next document of the filtered list."""
    right = [n for n, d in enumerate(documents) if d["label"] == d["prediction"]]
    shown = page(web, f"/demo/documents/{right[1]}?verdict=right&layer=2&words=pieces")
    assert "cls, layer 2 of 3" in text_of(shown)
    assert f"2 of {len(right)} in the list" in shown
    before, after = (re.findall(rf'rel="{rel}" href="([^"?]+)\?', shown)[0] for rel in ("prev", "next"))
    assert (before, after) == (f"/demo/documents/{right[0]}", f"/demo/documents/{right[2]}")
    most = max(
        (t for t in documents[right[1]]["tokens"] if not t["special"]),
        key=lambda t: t["cls_02"],
        default=None,
    )
    alone = page(web, f"/demo/documents/{right[1]}/heatmap?layer=2&words=pieces")
    if most is not None:
        share = most["cls_02"] * len(documents[right[1]]["tokens"])
        assert f"{share:.1f}×" in alone
    assert "<html" not in alone


@pytest.mark.slow
def test_an_embedded_answer_shows_its_words_and_folds_its_table(web, path):
    """Each word links to its page, by class and in the answer's order."""
    question = find_questions()["top_words_by_class"]
    expected = ask(open_store(path), question, {"limit": "3", "min_documents": "1"}).to_pylist()
    shown = page(web, "/demo/questions/top_words_by_class?limit=3&min_documents=1&part=answer")
    before, folded, _ = shown.partition("<details><summary>Table")
    assert folded
    words = re.findall(r'<a href="/demo/word\?word=[^"]+"><bdi>([^<]+)', before)
    assert words == [row["word"] for row in expected]
    assert "<table" not in before.partition('id="answer"')[2]


@pytest.mark.slow
def test_two_reductions_stand_side_by_side(web):
    """Each with its own caption."""
    shown = text_of(page(web, "/demo/documents/3?layer=1&reduction2=rollout"))
    assert "cls, layer 1 of 3" in shown
    assert "rollout" in shown


@pytest.mark.slow
def test_a_single_head_can_be_drawn(web, path, documents):
    """If a reduction has a value per head: strongest token and scale are those of the head."""
    number = max(range(60), key=lambda n: len(documents[n]["tokens"]))
    tokens = documents[number]["tokens"]
    shown = text_of(page(web, f"/demo/documents/{number}?reduction=cls_heads&layer=2&head=2&words=pieces"))
    assert "cls_heads, layer 2 of 3, head 2 of 2" in shown
    most = max(t["cls_heads_02"][1] for t in tokens if not t["special"]) * len(tokens)
    assert f"{most:.1f}×" in shown
    full = ninety_ninth(open_store(path), "cls_heads", 2, 2)
    assert f"full at {full:g}×, the 99th percentile of this store's tokens" in shown
    mean = text_of(page(web, f"/demo/documents/{number}?reduction=cls_heads&layer=2&head=0"))
    assert "cls_heads, layer 2 of 3" in mean
    assert "head 2 of 2" not in mean
    refused = page(web, f"/demo/documents/{number}?reduction=cls_heads&head=3", 400)
    assert "the store has no head 3: head is 1 to 2, or mean" in text_of(refused)


@pytest.mark.slow
def test_a_signed_score_is_drawn_for_and_against(tmp_path):
    """In two colours, with its own scale. It can't be renormalised."""
    signed = asked_store.StoredReduction(
        "odd", per_layer=False, per_head=False, meaning="", total=None, signed=True
    )
    documents = asked_store.made_up_documents(4)
    documents[0]["tokens"] = asked_store.words("film", "bear")
    for column in ("cls_01", "cls_02", "cls_03", "rollout"):
        asked_store.set_values(documents[0], column, [0.25] * 4)
    asked_store.set_values(documents[0], "cls_heads_01", [[0.25, 0.25]] * 4)
    asked_store.set_values(documents[0], "odd", [0.0, 9.0, -9.0, 0.0])
    documents[0]["text"] = "film bear"
    documents[0]["tokens"][1] |= {"start": 0, "end": 4}
    documents[0]["tokens"][2] |= {"start": 5, "end": 9}
    asked_store.write_store(tmp_path / "s.attn", documents, reductions=(signed,))
    with client(tmp_path / "s.attn") as web:
        shown = page(web, "/s/documents/0?alone=true")
    assert '<span class="s20" title="film: odd +9">film</span>' in shown
    assert '<span class="a20" title="bear: odd −9">bear</span>' in shown
    assert "above 0 it supports the prediction, below 0 it opposes it" in shown


@pytest.mark.slow
def test_special_tokens_can_be_left_out(web, documents):
    """The rest is rescaled to sum to 1, and the neighbours are drawn in the same way."""
    shown = page(web, "/demo/documents/3?alone=true")
    assert "ignored: special tokens; the rest is renormalised to a sum of 1" in text_of(shown)
    for rel in ("prev", "next"):
        (address,) = re.findall(rf'rel="{rel}" href="([^"]+)"', shown)
        assert "alone=true" in unescape(address)


@pytest.mark.slow
def test_a_question_is_answered_with_the_parameters_of_its_form(web, path):
    """Table, files and SQL use the parameters in the address. A missing one is asked for."""
    question = find_questions()["top_words_by_class"]
    expected = ask(open_store(path), question, {"limit": "2", "min_documents": "1"})
    shown = page(web, "/demo/questions/top_words_by_class?limit=2&min_documents=1&layer=")
    for word in expected.column("word").to_pylist():
        assert f"<bdi>{word}</bdi>" in shown
    assert {"-p limit=2", "-p min_documents=1"} <= set(re.findall(r"-p \w+=\w+", shown))
    answer = web.get("/demo/questions/top_words_by_class.csv?limit=2&min_documents=1")
    assert answer.text.splitlines()[0] == ",".join(expected.column_names)
    assert len(answer.text.splitlines()) == expected.num_rows + 1
    parquet = web.get("/demo/questions/top_words_by_class.parquet?limit=2&min_documents=1").content
    read = pq.read_table(pa.BufferReader(parquet))
    assert read.schema.equals(expected.schema)
    assert read.select(["class", "word", "documents"]).equals(expected.select(["class", "word", "documents"]))
    assert "It needs word." in page(web, "/demo/questions/contexts")
    wrong = page(web, "/demo/questions/top_words_by_class?limit=x")
    assert re.search(r'role="alert">limit=x does not fit', wrong)
    assert 'name="limit" value="x"' in wrong


def test_sql_can_only_read(web):
    """Rows are shown up to a limit, and statements that write are refused."""
    assert ">60<" in page(web, "/demo/sql?sql=select+count(*)+from+documents").replace("<bdi>", "").replace(
        "</bdi>", ""
    )
    shown = page(web, "/demo/sql?sql=select+*+from+range(2000)")
    assert "1,000 rows: there are more" in text_of(shown)
    assert (
        f"{len(web.get('/demo/sql.csv?sql=select+*+from+range(2000)').text.splitlines()):,} lines"
        == "2,001 lines"
    )
    for sql in (
        "drop table documents",
        "copy documents to '/tmp/x'",
        "select * from read_csv('/etc/passwd')",
    ):
        answer = web.get("/demo/sql", params={"sql": sql})
        assert re.search(r'role="alert">[^<]{20,}<', answer.text)
        assert "<tbody>" not in answer.text
        assert web.get("/demo/sql.csv", params={"sql": sql}).status_code == 400


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/nowhere/", 404),
        ("/demo/nothing", 404),
        ("/demo/documents/999999", 404),
        ("/demo/documents/3?layer=9", 400),
        ("/demo/documents/3?reduction=x", 400),
        ("/demo/documents/3?words=x", 400),
        ("/demo/documents?order=x", 400),
        ("/demo/word?word=nowhere", 404),
        ("/demo/questions/nothing", 404),
        ("/demo/questions/confusion.exe", 404),
        ("/static/../app.py", 404),
        ("/static/page.html", 404),
    ],
)
def test_a_missing_page_is_one_sentence(web, address, status):
    """A page that says so and links back, never a traceback."""
    shown = page(web, address, status)
    assert re.search(r'role="alert">[^<]{10,}<', shown)
    assert "Traceback" not in shown


@pytest.mark.slow
def test_only_the_explorers_own_pages_may_send_requests(path):
    """Another name in Host, another Origin, another site's script, and any method but reading are refused."""
    with client(path) as web:
        assert web.get("/demo/", headers={"host": "evil.example"}).status_code == 403
        assert web.get("/demo/", headers={"host": "evil.example:8765"}).status_code == 403
        assert web.get("/demo/", headers={"origin": "http://evil.example"}).status_code == 403
        assert web.get("/demo/", headers={"origin": BASE}).status_code == 200
        foreign = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
        assert web.get("/demo/", headers=foreign).status_code == 403
        followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        assert web.get("/demo/", headers=followed).status_code == 200
        assert web.post("/demo/sql", data={"sql": "select 1"}).status_code == 403
        assert web.get("/demo/", headers={"host": "[::1]:8765"}).status_code == 200
    with client(path, hosts=("box.example",)) as web:
        assert web.get("/demo/", headers={"host": "BOX.example:1"}).status_code == 200


@pytest.mark.slow
def test_every_answer_has_a_security_policy(web):
    """No scripts but the package's, nothing from elsewhere, no frames, no referrer; also for errors and files."""
    for address in ("/demo/", "/demo/nothing", "/static/explorer.js", "/demo/questions/confusion.csv"):
        headers = web.get(address).headers
        assert "default-src 'none'; script-src 'self';" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    for address in ("/demo/", "/demo/documents/1"):
        assert not re.search(r"<script(?![^>]*src=)|\son\w+=|javascript:", page(web, address))


HOSTILE = (
    "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}\u202e\x1b[31m\u200b%s"
)


@pytest.mark.slow
def test_untrusted_text_is_text_everywhere(tmp_path):
    """Text, id, label, class, group and word of a hostile store appear as text on every page."""
    documents = asked_store.made_up_documents(12)
    for number, document in enumerate(documents):
        document |= {
            "id": f"{HOSTILE}{number}", "text": HOSTILE * 2, "group": HOSTILE, "prediction": HOSTILE,
            "label": HOSTILE if number % 2 else "</title>", "tokens": [
                {**token, "token": HOSTILE, "word": None if token["special"] else HOSTILE}
                for token in document["tokens"]
            ],
        }  # fmt: skip
    asked_store.write_store(tmp_path / "h.attn", documents, labels=(HOSTILE, "</title>"))
    with client(tmp_path / "h.attn") as web:
        addresses = [
            "/h/", "/h/documents", "/h/documents/1", "/h/documents/1/heatmap", "/h/words", "/h/questions/confusion",
            "/h/questions/find_documents", "/h/sql?sql=select+*+from+documents", "/h/documents/2/similar",
        ]  # fmt: skip
        pages = [page(web, address) for address in addresses]
        pages += [
            web.get(f"/h/{where}", params=given).text
            for where, given in (
                ("documents", {"text": HOSTILE}),
                ("word", {"word": HOSTILE}),
                ("word/contexts", {"word": HOSTILE}),
                ("words", {"q": HOSTILE}),
                ("sql", {"sql": HOSTILE}),
                (quote(HOSTILE, safe=""), {}),
                ("questions/contexts", {"word": HOSTILE}),
                ("documents", {"order": HOSTILE}),
            )
        ]
    for shown in pages:
        assert "<script>alert" not in shown
        assert "<img src=x" not in shown
        assert "</title><" not in shown.replace("</title><link", "")
        assert not re.search(r'="[^"<>]*"[\w]', shown)  # no attribute was closed from inside
        assert "49" not in re.findall(r"\{\{ 7[^}]*\}\}|(?<=onerror=alert\(2\)&gt;)49", shown)
        assert not set("\u202e\x1b\u200b") & set(shown)


@pytest.mark.slow
def test_a_store_being_written_is_shown_growing(tmp_path):
    """The next page includes the parts finished meanwhile, and finally the sealed store."""
    path = tmp_path / "growing.attn"
    plan = manifest()
    with create_or_resume(path, plan) as store:
        store.write_part(0, *tables(plan, store.part_range(0)))
        with client(path) as web:
            assert "<strong>4 documents</strong>" in page(web, "/growing/documents")
            assert "The run is in progress" in page(web, "/growing/")
            assert text_of(page(web, "/growing/state")).startswith(
                "4 of 10 documents are finished; each page shows"
            )
            for part in (1, 2):
                store.write_part(part, *tables(plan, store.part_range(part)))
            assert "<strong>10 documents</strong>" in page(web, "/growing/documents")
            store.seal()
            assert "<strong>10 documents</strong>" in page(web, "/growing/documents")
            assert "The run is in progress" not in page(web, "/growing/")
            assert "<span data-sealed>10 of 10 documents are finished: it is sealed." in page(
                web, "/growing/state"
            )


@pytest.mark.slow
def test_a_statement_that_takes_too_long_is_stopped(path):
    """An endless statement gives one sentence after the limit, and the next page works as usual."""
    endless = (
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i > 0) SELECT sum(i) FROM n"
    )
    with client(path, limit=2) as web:
        answer = web.get("/demo/sql", params={"sql": endless})
        assert answer.status_code == 400
        assert "stopped after 2 s: ask for less" in answer.text
        assert web.get("/demo/documents").status_code == 200


@pytest.mark.slow
def test_many_readers_at_once(web):
    """Forty mixed requests by four readers: each gets the answer that it would get alone."""
    addresses = [
        "/demo/", "/demo/documents?text=film", "/demo/documents/5?layer=2", "/demo/documents/5?layer=1",
        "/demo/words?q=b", "/demo/word?word=film", "/demo/questions/confusion", "/demo/sql?sql=select+1",
    ]  # fmt: skip
    alone = {address: page(web, address) for address in addresses}
    wrong: list[str] = []

    def reads(first: int) -> None:
        for number in range(10):
            address = addresses[(first + number) % len(addresses)]
            if web.get(address).text != alone[address]:
                wrong.append(address)

    readers = [threading.Thread(target=reads, args=(each,)) for each in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert wrong == []


@pytest.mark.slow
def test_stores_with_the_same_name_have_different_addresses(path, tmp_path):
    """The first page lists them."""
    other = tmp_path / "demo.attn"
    asked_store.write_store(other, asked_store.made_up_documents(5))
    with client(path, other) as web:
        assert {"/demo/", "/demo-2/"} <= set(Links(page(web, "/")).found)
        assert "<strong>5 documents</strong>" in page(web, "/demo-2/documents")
