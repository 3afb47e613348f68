"""A stand-in for the model hub: the routes that ``snapshot_download`` uses, over real HTTP on loopback, with faults on
demand."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLDER = "fedcba9876543210fedcba9876543210fedcba98"
GOOD_TOKEN = "hf_good"


@dataclass
class Request:
    method: str
    path: str
    token: str | None
    range: str | None


@dataclass
class Hub:
    """What it holds, how it misbehaves, and what it was asked."""

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=lambda: {"main": COMMIT, "old": OLDER})
    gated: set[str] = field(default_factory=set)
    status: int | None = None
    """Answer everything so."""
    break_off: dict[str, list[int]] = field(default_factory=dict)
    """By file name: after how many bytes to close the connection, for each of the next downloads."""
    requests: list[Request] = field(default_factory=list)

    def downloads(self, name: str) -> list[Request]:
        return [request for request in self.requests if request.method == "GET" and request.path.endswith(f"/{name}")]


@contextmanager
def running() -> Iterator[Hub]:
    hub = Hub()

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Keep quiet; what was asked is in ``Hub.requests``."""

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def _handle(self) -> None:
        hub = self.served
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ") or None
        hub.requests.append(Request(self.command, path, token, self.headers.get("range")))
        if hub.status:
            self._refuse(hub.status, None)
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path):
            if self._admit(found[1], token):
                self._describe(found[1], found[2], found[3])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if self._admit(found[1], token):
                self._file(found[1], found[2], found[3])
        else:
            self._refuse(404, None)

    def _admit(self, repository: str, token: str | None) -> bool:
        hub = self.served
        if token not in {None, GOOD_TOKEN}:
            self._refuse(401, None, "Invalid credentials in Authorization header")
        elif repository not in hub.repositories:
            self._refuse(404 if token else 401, "RepoNotFound")
        elif repository in hub.gated and token is None:
            self._refuse(401, "GatedRepo")
        elif repository in hub.gated:
            self._refuse(403, "GatedRepo")
        else:
            return True
        return False

    def _describe(self, repository: str, kind: str, revision: str) -> None:
        hub = self.served
        commit = hub.refs.get(revision, revision)
        if commit not in hub.refs.values():
            self._refuse(404, "RevisionNotFound")
            return
        files = hub.repositories[repository]
        if kind == "revision":
            siblings = [{"rfilename": name} for name in files]
            self._json({"id": repository, "modelId": repository, "sha": commit, "siblings": siblings, "private": False})
        else:
            self._json(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ]
            )

    def _file(self, repository: str, revision: str, name: str) -> None:
        hub = self.served
        content = hub.repositories[repository].get(name)
        if content is None or hub.refs.get(revision, revision) not in hub.refs.values():
            self._refuse(404, "EntryNotFound")
            return
        start = 0
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range") or ""):
            start = int(found[1])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", hub.refs.get(revision, revision))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if limits := hub.break_off.get(name):
            self.wfile.write(content[start : start + limits.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
        else:
            self.wfile.write(content[start:])

    def _json(self, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, code: str | None, message: str = "no") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()
