"""The explorer as a web application: the addresses of pages, access control, and errors.

It only reads. Each page is a GET whose address determines all that it shows, so it can be bookmarked and shared. Pages
load nothing from elsewhere, and run only the package's own scripts.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from attnstore.ask.pool import Work
from attnstore.ask.questions import find_questions, get_question
from attnstore.ask.sql import select
from attnstore.ask.statement import reading_statement
from attnstore.errors import AttnstoreError, NotFoundError, StoreError, UsageError
from attnstore.messages import one_line
from attnstore.show.colours import Background
from attnstore.show.explorer import views
from attnstore.show.explorer.shelf import Shelf
from attnstore.show.formats import render as rendered
from attnstore.show.markup import prepare, render, source
from attnstore.store.place import Place

T = TypeVar("T")

_LIMIT = 60.0  # seconds that a page may compute
_LOOKED_EVERY = 0.1  # seconds between checks whether the reader is still there
_AT_ONCE = 4  # pages computed at a time; others wait

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_FILES = {
    "icon.svg": "image/svg+xml",
    "explorer.js": "text/javascript",
    "explorer.css": "text/css",
    "heatmap.css": "text/css",
}
_FORMS = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "svg": "image/svg+xml",
    "png": "image/png",
}


def explorer(stores: Sequence[Place], hosts: Sequence[str] = (), limit: float = _LIMIT) -> ASGIApp:
    """The application over these stores. `hosts` are host names that it accepts beside those of the loopback.

    Raises StoreError if a store can't be read.
    """
    shelf = Shelf(stores)
    find_questions()
    prepare("explorer_")
    app = Starlette(
        routes=[
            Route("/", _home),
            Route("/static/{file}", _static),
            Route("/{store}/", _page(views.overview, "explorer_overview.html")),
            Route("/{store}/state", _page(views.state, "explorer_state.html")),
            Route("/{store}/documents", _page(views.documents, "explorer_documents.html")),
            Route("/{store}/documents/{number:int}", _page(views.document, "explorer_document.html")),
            Route(
                "/{store}/documents/{number:int}/heatmap",
                _page(views.heat_map_alone, "explorer_heatmap.html"),
            ),
            Route("/{store}/documents/{number:int}/similar", _page(views.similar, "explorer_answer.html")),
            Route("/{store}/words", _page(views.words, "explorer_words.html")),
            Route("/{store}/word", _page(views.word, "explorer_word.html")),
            Route("/{store}/word/contexts", _page(views.contexts, "explorer_contexts.html")),
            Route("/{store}/questions", _page(views.questions, "explorer_questions.html")),
            Route("/{store}/questions/{name}.{form}", _answer),
            Route("/{store}/questions/{name}", _page(views.question, "explorer_question.html")),
            Route("/{store}/sql", _page(views.console, "explorer_sql.html")),
            Route("/{store}/sql.csv", _sql_csv),
        ],
        exception_handlers={
            NotFoundError: partial(_failed, 404),
            UsageError: partial(_failed, 400),
            StoreError: partial(_failed, 503),
            AttnstoreError: partial(_failed, 500),
            HTTPException: _not_there,
        },
    )
    app.state.shelf = shelf
    app.state.limit = limit
    app.state.limiter = None
    return _Guarded(app, ("127.0.0.1", "localhost", "::1", *hosts))


class _Guarded:
    """The guard in front of the application: who may send requests, and which headers every response has.

    The Host is checked because a page elsewhere may make its name point here (DNS rebinding), and Origin and
    Sec-Fetch-Site because it may send requests in its reader's name. From elsewhere, only a reader who follows a link
    is let in.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.casefold() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await Response(refusal, status_code=403, media_type="text/plain")(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> str | None:
        host = headers.get("host", "")
        if _name_of(host) not in self._hosts:
            return "attnstore browse answers to its own address alone"
        if scope["method"] not in ("GET", "HEAD"):
            return "attnstore browse is only read"
        origin = headers.get("origin")
        if origin is not None and origin.casefold() not in (
            f"http://{host}".casefold(),
            f"https://{host}".casefold(),
        ):
            return "attnstore browse answers to its own pages alone"
        is_foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if is_foreign and headers.get("sec-fetch-mode") != "navigate":
            return "attnstore browse answers to its own pages alone"
        return None


def _name_of(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host.partition("]")[0].removeprefix("[").casefold()
    return host.rpartition(":")[0].casefold() if ":" in host else host.casefold()


def _page(make: Callable[..., dict[str, Any]], template: str) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a page: the result of `make`, in a template."""

    async def endpoint(request: Request) -> Response:
        given = dict(request.path_params)
        name = _store_of(request, given.pop("store"))
        parameters = dict(request.query_params)

        def work_out(work: Work) -> str:
            if make is views.questions:
                values = make()
            elif make in (views.overview, views.state):
                values = make(work)
            elif make is views.similar:
                values = make(work, **given)
            else:
                values = make(work, *given.values(), parameters)
            return render(template, **_common(request, name), **values)

        return HTMLResponse(await _computed(request, name, work_out))

    return endpoint


def _common(request: Request, name: str) -> dict[str, Any]:
    shelf: Shelf = request.app.state.shelf
    return {"store": name, "stores": shelf.names, "root": f"/{name}/", "here": request.url.path}


def _store_of(request: Request, name: str) -> str:
    if name not in request.app.state.shelf:
        raise HTTPException(404, f"there is no store {name} here")
    return name


async def _computed(request: Request, name: str, make: Callable[[Work], T]) -> T:
    """The result of `make`, computed in a thread; stopped if the reader has left, or if it takes too long.

    Raises what `make` raises, and UsageError if it took too long.
    """
    state = request.app.state
    if state.limiter is None:  # it belongs to the event loop, which does not exist earlier
        state.limiter = anyio.CapacityLimiter(_AT_ONCE)
    async with state.limiter:
        work: Work = await run_in_threadpool(state.shelf.work, name)
        task = asyncio.ensure_future(run_in_threadpool(make, work))
        began = asyncio.get_running_loop().time()
        is_late = False
        while not task.done():
            await asyncio.wait([task], timeout=_LOOKED_EVERY)
            is_late = is_late or asyncio.get_running_loop().time() - began > state.limit
            if not task.done() and (is_late or await request.is_disconnected()):
                work.end()
        try:
            return task.result()
        except Exception as error:
            if is_late:
                raise UsageError(f"stopped after {state.limit:g} s: ask for less") from error
            raise


async def _home(request: Request) -> Response:
    shelf: Shelf = request.app.state.shelf
    if len(shelf.names) == 1:
        return RedirectResponse(f"/{shelf.names[0]}/")
    rows = await run_in_threadpool(
        lambda: [
            {
                "name": name,
                "path": str(shelf.path(name)),
                "href": f"/{name}/",
                "manifest": shelf.store(name).manifest,
            }
            for name in shelf.names
        ]
    )
    return HTMLResponse(
        render("explorer_home.html", store=None, stores=shelf.names, root="/", here="/", rows=rows)
    )


async def _static(request: Request) -> Response:
    name = request.path_params["file"]
    if name not in _FILES:
        raise HTTPException(404, "there is no such file")
    content = render(name) if name.endswith(".css") else source(name)
    return Response(content, media_type=_FILES[name])


async def _answer(request: Request) -> Response:
    """A question's answer as a file, or its chart as a picture."""
    store, name, form = (request.path_params[key] for key in ("store", "name", "form"))
    _store_of(request, store)
    question = get_question(name, find_questions())
    if form not in _FORMS:
        raise HTTPException(404, f"an answer comes as {', '.join(_FORMS)}")
    asked = views.asked_of(question, dict(request.query_params))
    background: Background = "dark" if request.query_params.get("background") == "dark" else "light"

    def make(work: Work) -> bytes:
        if form in ("svg", "png"):
            from attnstore.show.plot import plot

            chart = plot(work.pool.store, question, dict(asked), answered=work.ask)
            return chart.rendered(form, background)
        return rendered(work.ask(question, asked), form)

    return _file(await _computed(request, store, make), f"{name}.{form}", form)


async def _sql_csv(request: Request) -> Response:
    store = _store_of(request, request.path_params["store"])
    sql = request.query_params.get("sql", "")

    def make(work: Work) -> bytes:
        reading_statement(sql)
        with work.connect(work.pool.store) as connection:
            return rendered(select(work.pool.store, connection, sql), "csv")

    return _file(await _computed(request, store, make), "answer.csv", "csv")


def _file(content: bytes, name: str, form: str) -> Response:
    how = "inline" if form in ("svg", "png") else "attachment"
    headers = {"content-disposition": f'{how}; filename="{name}"'}
    return Response(content, media_type=_FORMS[form], headers=headers)


async def _failed(status: int, request: Request, error: Exception) -> Response:
    return _error_page(request, one_line(str(error)), status)


async def _not_there(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what this handler is registered for
    said = error.detail if error.detail != "Not Found" else "there is no such page"
    return _error_page(request, said, error.status_code)


def _error_page(request: Request, sentence: str, status: int) -> Response:
    shelf: Shelf = request.app.state.shelf
    name = str(request.path_params.get("store", ""))
    store = name if name in shelf else None
    page = render(
        "explorer_error.html",
        store=store,
        stores=shelf.names,
        root=f"/{name}/" if store else "/",
        here=request.url.path,
        sentence=sentence,
    )
    return HTMLResponse(page, status_code=status)
