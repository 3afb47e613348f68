"""The HTTP face of the fake engine: vLLM's routes and formats."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sundog_serving.errors import EngineDeadError

if TYPE_CHECKING:
    from sundog_serving.fake import FakeEngine

DEFAULT_TOKENS: Final = 16
MAX_MODEL_LEN: Final = 131072

Document = dict[str, Any]


class BadRequestError(Exception):
    """A request that cannot be served; told to the client."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        self.status = status
        super().__init__(message)


def app(engine: "FakeEngine") -> Starlette:
    """Return the routes of an engine."""
    routes = _Routes(engine)
    post = {
        "/v1/chat/completions": routes.chat,
        "/v1/completions": routes.completions,
        "/v1/embeddings": routes.embeddings,
        "/tokenize": routes.tokenize,
        # vLLM has such a route in its development mode; here it proves that the guard closes it.
        "/sleep": routes.control,
    }
    get = {
        "/v1/models": routes.models,
        "/health": routes.health,
        "/ping": routes.health,
        "/version": routes.version,
        "/metrics": routes.metrics,
    }
    return Starlette(
        routes=[
            *(Route(path, _told(handler), methods=["POST"]) for path, handler in post.items()),
            *(Route(path, _told(handler), methods=["GET"]) for path, handler in get.items()),
        ]
    )


Handler = Callable[[Request], Awaitable[Response]]


def _told(handler: Handler) -> Handler:
    """Turn errors into the documents that OpenAI clients understand."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except BadRequestError as error:
            return _error(error.status, "NotFoundError" if error.status == 404 else "BadRequestError", str(error))
        except EngineDeadError as error:
            return _error(500, "InternalServerError", str(error))

    return handle


def _error(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse(
        {"error": {"message": message, "type": kind, "param": None, "code": status}}, status_code=status
    )


class _Routes:
    def __init__(self, engine: "FakeEngine") -> None:
        from sundog_serving.fake import FakeLoRA  # noqa: PLC0415  it names these routes

        self._engine = engine
        self._adapters = engine.lora or FakeLoRA(slots=0)
        self._model = engine.description.model
        self._created = int(time.time())

    async def chat(self, request: Request) -> Response:
        body = await self._body(request)
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
            raise BadRequestError("messages must be a list of at least one message")
        prompt_tokens = sum(_count(message.get("content")) for message in messages)
        return await self._generate(body, _Chat(self._named(body)), prompt_tokens=prompt_tokens)

    async def completions(self, request: Request) -> Response:
        body = await self._body(request)
        if not isinstance(prompt := body.get("prompt"), str):
            raise BadRequestError("prompt must be a string")
        return await self._generate(body, _Completion(self._named(body)), prompt_tokens=_count(prompt))

    async def _generate(self, body: Document, shape: "_Shape", *, prompt_tokens: int) -> Response:
        if "generate" not in self._engine.description.tasks:
            raise BadRequestError("The model does not generate text.", status=404)
        count = _max_tokens(body)
        if body.get("n") not in {None, 1}:
            raise BadRequestError("the fake engine answers with one choice: n must be 1")
        await self._engine.check()
        self._engine.prompted(prompt_tokens)
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": count, "total_tokens": prompt_tokens + count}
        if body.get("stream"):
            wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
            events = self._events(shape, count, usage=usage if wants_usage else None)
            return StreamingResponse(events, media_type="text/event-stream")
        text = "".join([token async for token in self._timed(count, shape.model)])
        return JSONResponse(shape.whole(text) | {"usage": usage})

    async def _events(self, shape: "_Shape", count: int, *, usage: Document | None) -> AsyncIterator[str]:
        for chunk in shape.opening():
            yield _event(chunk)
        number = 0
        async for token in self._timed(count, shape.model):
            number += 1
            yield _event(shape.chunk(token, finished=number == count))
        if usage:
            yield _event(shape.empty() | {"usage": usage})
        yield "data: [DONE]\n\n"

    async def _timed(self, count: int, model: str) -> AsyncIterator[str]:
        began = before = time.monotonic()
        name = "time_to_first_token_seconds"
        with self._adapters.used_by(model):
            async for token in self._engine.tokens(count):
                now = time.monotonic()
                self._engine.metrics.observe(name, now - before)
                before, name = now, "inter_token_latency_seconds"
                yield token
        self._engine.metrics.observe("e2e_request_latency_seconds", time.monotonic() - began)

    async def embeddings(self, request: Request) -> Response:
        body = await self._body(request)
        if "embed" not in self._engine.description.tasks:
            raise BadRequestError("The model does not support embeddings.", status=404)
        texts = body.get("input")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise BadRequestError("input must be a string or a list of strings")
        async for _ in self._timed(1, self._named(body)):
            pass
        tokens = sum(map(_count, texts))
        self._engine.prompted(tokens)
        data = [
            {"object": "embedding", "index": index, "embedding": [float(len(text)), float(_count(text)), 0.0, 1.0]}
            for index, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "model": self._named(body), "data": data, "usage": usage})

    async def tokenize(self, request: Request) -> Response:
        body = await self._body(request)
        tokens = list(range(_count(body.get("prompt"))))
        return JSONResponse({"count": len(tokens), "max_model_len": MAX_MODEL_LEN, "tokens": tokens})

    async def control(self, _request: Request) -> Response:
        return Response(status_code=200)

    async def models(self, _request: Request) -> Response:
        common = {"object": "model", "created": self._created, "owned_by": "sundog", "max_model_len": MAX_MODEL_LEN}
        adapters = [{"id": name, **common, "parent": self._model} for name in self._adapters.names]
        return JSONResponse({"object": "list", "data": [{"id": self._model, **common}, *adapters]})

    async def health(self, _request: Request) -> Response:
        return Response(status_code=200 if self._engine.alive else 503)

    async def version(self, _request: Request) -> Response:
        return JSONResponse({"version": self._engine.description.version})

    async def metrics(self, _request: Request) -> Response:
        return Response(self._engine.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def _body(self, request: Request) -> Document:
        try:
            body = json.loads(await request.body())
        except (ValueError, RecursionError) as error:
            raise BadRequestError(f"the body is not JSON: {error}") from error
        if not isinstance(body, dict):
            raise BadRequestError("the body must be a JSON object")
        if self._named(body) not in (self._model, *self._adapters.names):
            raise BadRequestError(f"The model `{body['model']}` does not exist.", status=404)
        return body

    def _named(self, body: Document) -> Any:
        return self._model if body.get("model") is None else body["model"]


class _Shape:
    """How one kind of answer looks, whole and in chunks."""

    object_whole: str
    object_chunk: str

    def __init__(self, model: str, prefix: str) -> None:
        self.model = model
        self._common = {"id": f"{prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def opening(self) -> list[Document]:
        return []

    def empty(self) -> Document:
        return {**self._common, "object": self.object_chunk, "choices": []}

    def _document(self, kind: str, choice: Document, *, finished: bool) -> Document:
        choice = {"index": 0, "logprobs": None, "finish_reason": "length" if finished else None, **choice}
        return {**self._common, "object": kind, "choices": [choice]}

    def whole(self, text: str) -> Document:
        raise NotImplementedError

    def chunk(self, token: str, *, finished: bool) -> Document:
        raise NotImplementedError


class _Chat(_Shape):
    object_whole = "chat.completion"
    object_chunk = "chat.completion.chunk"

    def __init__(self, model: str) -> None:
        super().__init__(model, "chatcmpl")

    def opening(self) -> list[Document]:
        return [self._document(self.object_chunk, {"delta": {"role": "assistant", "content": ""}}, finished=False)]

    def whole(self, text: str) -> Document:
        return self._document(self.object_whole, {"message": {"role": "assistant", "content": text}}, finished=True)

    def chunk(self, token: str, *, finished: bool) -> Document:
        return self._document(self.object_chunk, {"delta": {"content": token}}, finished=finished)


class _Completion(_Shape):
    object_whole = "text_completion"
    object_chunk = "text_completion"

    def __init__(self, model: str) -> None:
        super().__init__(model, "cmpl")

    def whole(self, text: str) -> Document:
        return self._document(self.object_whole, {"text": text}, finished=True)

    def chunk(self, token: str, *, finished: bool) -> Document:
        return self._document(self.object_chunk, {"text": token}, finished=finished)


def _event(document: Document) -> str:
    return f"data: {json.dumps(document)}\n\n"


def _count(text: Any) -> int:
    return len(text.split()) if isinstance(text, str) else 1


def _max_tokens(body: Document) -> int:
    count = body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_TOKENS
    if not isinstance(count, int) or not 1 <= count <= MAX_MODEL_LEN:
        raise BadRequestError(f"max_tokens must be between 1 and {MAX_MODEL_LEN}")
    return count
