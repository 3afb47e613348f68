"""What stands between the network and the engine's app, on every replica.

- The deployment's token: pod addresses are reused, so a neighbour's router may knock; it gets 403.
- Only routes for users pass (`routes`); everything else is 404.
- Light answers of its own: how busy the engine is, what it is, and which adapters it has.
- What an engine that died has not begun to answer is given back: the router sends it to another replica.
- An access log that names route, status and times, and never what was asked.
"""

import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Final

from sundog_serving.adapters import Adapters
from sundog_serving.contract import ADAPTERS_ROUTE, ENGINE_ROUTE, GIVEN_BACK, LOAD_ROUTE, REPLICA_TOKEN_HEADER
from sundog_serving.engine import ASGIApp, Engine, Message, Receive, Scope, Send
from sundog_serving.errors import EngineDeadError
from sundog_serving.routes import open_route

logger = logging.getLogger("sundog.access")

# Asked for every second or so by machines: not worth a line unless they fail.
_QUIET: Final = frozenset({"/metrics", "/health", "/ping", LOAD_ROUTE, ENGINE_ROUTE, ADAPTERS_ROUTE})
_TOKEN: Final = REPLICA_TOKEN_HEADER.encode()
_STREAMED_ERROR: Final = b'data: {"error"'


class Guard:
    """An ASGI app around an engine's ASGI app."""

    def __init__(
        self, engine: Engine, *, token: str, about: Mapping[str, Any], adapters: Adapters | None = None
    ) -> None:
        """Guard an engine.

        Args:
            engine: The engine, which has loaded its model.
            token: What callers must send in ``x-sundog-replica-token``. Never empty.
            about: Answered at ``/sundog/engine``.
            adapters: Tell their state at ``/sundog/adapters``; None: there is no such route.
        """
        if not token:
            raise ValueError("an empty token would let everybody in")
        self._engine = engine
        self._app: ASGIApp = engine.app
        self._token = token.encode()
        self._about = about
        self._adapters = adapters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, as ASGI says."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif not self._admit(scope):
            await _refuse(scope, receive, send, status=403, message="This replica is reached through its router only.")
        elif (path := scope["path"]) == LOAD_ROUTE:
            await _answer(send, 200, asdict(self._engine.load()))
        elif path == ENGINE_ROUTE:
            await _answer(send, 200, self._about)
        elif path == ADAPTERS_ROUTE and self._adapters:
            await _answer(send, 200, self._adapters.report())
        elif route := open_route(path):
            await self._pass(scope, receive, send, route=route)
        else:
            await _refuse(scope, receive, send, status=404, message="There is no such route.")

    def _admit(self, scope: Scope) -> bool:
        """Check the token, in constant time, and take it off the request: the engine has no use for it."""
        tokens = [value for name, value in scope["headers"] if name == _TOKEN]
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name != _TOKEN]
        return len(tokens) == 1 and hmac.compare_digest(tokens[0], self._token)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, *, route: str) -> None:
        answer = _Answer(send, is_dead=lambda: self._is_dead(scope))
        try:
            await self._app(scope, receive, answer.send)
        except Exception as error:
            if answer.begun or not (isinstance(error, _GivenBack) or await self._is_dead(scope)):
                raise
            answer.status, answer.outcome = GIVEN_BACK, "given-back"
            await _answer(send, GIVEN_BACK, {"error": {"message": "The engine of this replica died."}})
        finally:
            if route not in _QUIET or answer.status >= HTTPStatus.BAD_REQUEST:
                logger.info(
                    "method=%s route=%s status=%d outcome=%s seconds=%.3f first_byte_seconds=%.3f bytes=%d",
                    scope.get("method", "WEBSOCKET"),
                    route,
                    answer.status,
                    answer.outcome,
                    time.monotonic() - answer.began,
                    -1 if answer.first_byte is None else answer.first_byte,
                    answer.bytes,
                )

    async def _is_dead(self, scope: Scope) -> bool:
        """Whether a request failed because there is no engine any more; only such a one does another replica repeat."""
        if scope.get("method") != "POST":
            return False
        try:
            await self._engine.check()
        except EngineDeadError:
            return True
        return False


def _is_bad_news(status: int, body: bytes) -> bool:
    """Whether an answer, by its beginning, tells a failure of the engine."""
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or body.startswith(_STREAMED_ERROR)


class _GivenBack(Exception):  # noqa: N818 it is what becomes of a request
    """Another replica shall answer."""


class _Answer:
    """Passes an answer on, and counts it. Its beginning waits for something to say: until then another could answer."""

    def __init__(self, send: Send, *, is_dead: Callable[[], Awaitable[bool]]) -> None:
        self._send = send
        self._is_dead = is_dead
        self._start: Message | None = None
        self.began = time.monotonic()
        self.begun = False
        self.status = 0
        self.first_byte: float | None = None
        self.bytes = 0
        self.outcome = "cut"  # until the last byte is out: the client left, or the engine failed amid the answer

    async def send(self, message: Message) -> None:
        """Take a message of the engine's app.

        Raises:
            _GivenBack: it begins by telling that the engine is dead.
        """
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self._start is not None:
            if _is_bad_news(self._start["status"], message.get("body", b"")) and await self._is_dead():
                raise _GivenBack
            self.begun, self.status = True, self._start["status"]
            await self._send(self._start)
            self._start = None
        await self._send(message)
        if message["type"] == "http.response.body":
            if self.first_byte is None and message.get("body"):
                self.first_byte = time.monotonic() - self.began
            self.bytes += len(message.get("body", b""))
            if not message.get("more_body", False):
                self.outcome = "done"


async def _refuse(scope: Scope, receive: Receive, send: Send, *, status: int, message: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})  # before accepting: the server answers 403
        return
    kind = {403: "PermissionDeniedError", 404: "NotFoundError"}[status]
    await _answer(send, status, {"error": {"message": message, "type": kind, "param": None, "code": status}})


async def _answer(send: Send, status: int, document: Mapping[str, Any]) -> None:
    body = json.dumps(document).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
