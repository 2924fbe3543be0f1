"""A hub on this machine: enough of the Hugging Face Hub's protocol to fetch a model's files from a folder."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving(repositories: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """Serve model folders by repository name. Yields the address and the list of requested files."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            asked.append(path)
            for name, folder in repositories.items():
                if path in (f"/api/models/{name}", f"/api/models/{name}/revision/main"):
                    files = sorted(p.name for p in folder.iterdir())
                    info = {
                        "id": name,
                        "sha": COMMIT,
                        "siblings": [{"rfilename": f} for f in files],
                        "tags": [],
                    }
                    return self.answer(json.dumps(info).encode(), "application/json")
                if path == f"/api/models/{name}/tree/{COMMIT}":
                    tree = [
                        {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": COMMIT}
                        for p in sorted(folder.iterdir())
                    ]
                    return self.answer(json.dumps(tree).encode(), "application/json")
                for revision in ("main", COMMIT):
                    prefix = f"/{name}/resolve/{revision}/"
                    if path.startswith(prefix) and (folder / path.removeprefix(prefix)).is_file():
                        return self.answer(
                            (folder / path.removeprefix(prefix)).read_bytes(), "application/octet-stream"
                        )
            self.answer(b"{}", "application/json", 404, {"X-Error-Code": "RepoNotFound"})

        def answer(
            self, content: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()[:40]}"')
            self.send_header("X-Repo-Commit", COMMIT)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
