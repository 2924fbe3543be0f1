"""A hub on this machine to which data sets are pushed: enough of the Hugging Face Hub's protocol for a folder."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

#: The only token that may write, and its owner; the other token may only read.
WRITES, READS, OWNER = "hf_writes", "hf_reads", "me"


@dataclass
class Hub:
    """Its contents: by name, whether a data set is private, and its files; and the commits, each a list of paths."""

    address: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)
    large: dict[str, bytes] = field(default_factory=dict)

    def commit(self, name: str) -> str:
        """A hash of the current state, like the hub's commits."""
        content = {path: hashlib.sha256(body).hexdigest() for path, body in self.files[name].items()}
        return hashlib.sha1(json.dumps(content, sort_keys=True).encode()).hexdigest()  # noqa: S324 - no secret


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            for name, files in hub.files.items():
                if hub.private[name] and not self.token():
                    continue
                commit = hub.commit(name)
                if path in (f"/api/datasets/{name}", f"/api/datasets/{name}/revision/main"):
                    siblings = [{"rfilename": each} for each in sorted(files)]
                    return self.answer({"id": name, "sha": commit, "siblings": siblings, "tags": []})
                if path in (f"/api/datasets/{name}/tree/{revision}" for revision in ("main", commit)):
                    tree = [
                        {
                            "type": "file",
                            "path": each,
                            "size": len(body),
                            "oid": hashlib.sha256(body).hexdigest()[:40],
                        }
                        for each, body in sorted(files.items())
                    ]
                    return self.answer(tree)
                for revision in ("main", commit):
                    prefix = f"/datasets/{name}/resolve/{revision}/"
                    body = files.get(unquote(path.removeprefix(prefix))) if path.startswith(prefix) else None
                    if body is not None:
                        return self.answer(body, commit=commit)
            self.answer({"error": "Repository not found"}, 404, code="RepoNotFound")

        def do_PUT(self) -> None:
            hub.large[self.path.rpartition("/")[2]] = self.body()
            self.answer({})

        def do_POST(self) -> None:
            content = self.body()
            path = self.path.split("?")[0]
            if path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if self.token() != WRITES:
                return self.answer({"error": "no right"}, 403 if self.token() else 401)
            if path == "/api/repos/create":
                asked = json.loads(content)
                name = f"{asked['organization']}/{asked['name']}"
                if asked["organization"] != OWNER:
                    return self.answer({"error": "not yours"}, 403)
                private = asked.get("private", asked.get("visibility") == "private")
                is_there = name in hub.files
                hub.files.setdefault(name, {".gitattributes": b""})
                hub.private.setdefault(name, private)
                return self.answer({"url": f"{hub.address}/datasets/{name}"}, 409 if is_there else 200)
            name = path.removeprefix("/api").removeprefix("/datasets/")
            if name.endswith(".git/info/lfs/objects/batch"):
                found = [
                    each | {"actions": {"upload": {"href": f"{hub.address}/large/{each['oid']}"}}}
                    for each in json.loads(content)["objects"]
                ]
                return self.answer({"transfer": "basic", "objects": found})
            if name.endswith("/preupload/main"):
                modes = [
                    {
                        "path": each["path"],
                        "uploadMode": "lfs" if each["path"].endswith(".parquet") else "regular",
                        "shouldIgnore": False,
                    }
                    for each in json.loads(content)["files"]
                ]
                return self.answer({"files": modes})
            self.commit(name.removesuffix("/commit/main"), content)

        def commit(self, name: str, content: bytes) -> None:
            files, touched = hub.files[name], []
            for line in content.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    body = hub.large[value["oid"]]
                    assert hashlib.sha256(body).hexdigest() == value["oid"]
                    files[value["path"]] = body
                elif entry["key"] == "deletedFile":
                    del files[value["path"]]
                else:
                    continue
                touched.append(value["path"])
            hub.commits.append(sorted(touched))
            oid = hub.commit(name)
            self.answer({"commitUrl": f"{hub.address}/datasets/{name}/commit/{oid}", "commitOid": oid})

        def token(self) -> str:
            return self.headers.get("Authorization", "").removeprefix("Bearer ")

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def answer(self, content: object, status: int = 200, code: str = "", commit: str = "") -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            for name, value in (("X-Error-Code", code), ("X-Repo-Commit", commit)):
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def serving() -> Iterator[Hub]:
    """An empty hub, which exists inside the `with` block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
