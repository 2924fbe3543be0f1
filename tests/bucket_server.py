"""An S3 server on this machine: moto's, which counts requests and fails on demand.

It knows one pair of credentials, `KEY` and `SECRET`.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

KEY, SECRET, BUCKET = "AKIATEST", "secret", "data"
#: Faults of a request. `unavailable`: 503; `refused`: the connection is closed at once; `torn`: it is closed in the
#: middle of the answer; `lost`: the request succeeds, but reports a failure; `slow`: it takes half a second.
FAULTS = ("unavailable", "refused", "torn", "lost", "slow")


@dataclass
class Server:
    """`fault`: a function from method and path to a fault, or None. `asked`: method, path, and bytes sent."""

    address: str = ""
    fault: Callable[[str, str], str | None] = lambda _method, _path: None
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    @contextmanager
    def failing(self, fault: Callable[[str, str], str | None]) -> Iterator[None]:
        self.fault = fault
        try:
            yield
        finally:
            self.fault = lambda _method, _path: None

    def upload(self, folder: Path, name: str) -> str:
        """Put a folder or a file below a name of the bucket. Returns the address."""
        from attnstore.buckets import Bucket

        place = Bucket(f"s3://{BUCKET}/{name}")
        if folder.is_file():
            place.put(folder.read_bytes())
        for path in folder.rglob("*"):
            if path.is_file():
                (place / path.relative_to(folder).as_posix()).put(path.read_bytes())
        return str(place)


def environment(server: Server) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": server.address,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "NO_PROXY": "127.0.0.1",
    }


def lead_to(server: Server, patch: pytest.MonkeyPatch) -> None:
    """Let the environment point to the server, with short waits before retries."""
    from attnstore import buckets

    for name, value in environment(server).items():
        patch.setenv(name, value)
    wait = {"init_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=20), "base": 2}
    patch.setattr(buckets, "RETRIES", {**buckets.RETRIES, "backoff": wait, "max_retries": 4})


@contextmanager
def served() -> Iterator[Server]:
    """The server, with the bucket `BUCKET`. Skips the test without moto or obstore."""
    pytest.importorskip("obstore", reason="obstore, which reads buckets, is not installed")
    pytest.importorskip("moto", reason="moto, the tests' server of S3, is not installed")
    pytest.importorskip("flask_cors", reason="flask-cors, which moto's server needs, is not installed")
    from moto.moto_server.werkzeug_app import create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = Server()
    app = _Faulty(create_backend_app("s3"), server)
    http = make_server("127.0.0.1", 0, app, threaded=True)
    server.address = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    _create(app, BUCKET)
    yield server
    http.shutdown()
    thread.join()


def _create(app: Any, bucket: str) -> None:
    from werkzeug.test import Client

    headers = {
        "Host": "127.0.0.1",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/x/us-east-1/s3/aws4_request",
    }
    assert Client(app).put(f"/{bucket}", headers=headers).status_code == 200


class _Faulty:
    """moto's application with faults before it."""

    def __init__(self, app: Any, server: Server) -> None:
        self._app, self._server = app, server

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix(f"/{BUCKET}/")
        fault = self._server.fault(method, path)
        if f"Credential={KEY}/" not in environ.get("HTTP_AUTHORIZATION", ""):
            return _error(start_response, "403 Forbidden", "InvalidAccessKeyId")
        if fault == "unavailable":
            return _error(start_response, "503 Service Unavailable", "SlowDown")
        if fault == "refused":
            return _closed(environ, start_response)
        if fault == "slow":
            time.sleep(0.5)
        started: list[Any] = []
        body = b"".join(self._app(environ, lambda *given: started.append(given)))
        self._server.asked.append((method, path, len(body)))
        status, headers = started[0][:2]
        if fault == "lost":
            return _error(start_response, "500 Internal Server Error", "InternalError")
        if fault == "torn" and len(body) > 1:
            headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
            start_response(status, [*headers, ("Content-Length", str(len(body)))])
            return [body[: len(body) // 2]]
        start_response(status, headers)
        return [body]


def _error(start_response: Any, status: str, code: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "application/xml")])
    return [f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()]


def _closed(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    environ["werkzeug.socket"].shutdown(2)
    start_response("500 Internal Server Error", [])
    return []
