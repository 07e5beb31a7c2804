"""The HTTP server: OpenAI's chat API, health, the list of models, and the chat page with its own stream.

    herd serve runs/pocket/chat --port 8080

Loopback unless told otherwise.  What waits is bounded (429), requests have a size limit (413), a client that leaves
ends its generation, and the guard of the model's run stands before prompts, tool results and answers.
"""

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

import herd
from herd.foundation.errors import HerdError
from herd.infer.sampling import Sampling
from herd.infer.service import QueueFullError, ServiceClosedError
from herd.serve import protocol
from herd.serve.assistant import Assistant, Call, ContextFullError, End, Happening, Refused, Result, Text
from herd.serve.household import Household
from herd.serve.protocol import ApiError, ChatRequest, ConverseRequest
from herd.serve.turn import Turn

LARGEST_BODY = 1 << 20
_POLL_SECONDS = 0.1
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_PAGE_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}}

Found = TypeVar("Found")
Body = TypeVar("Body", bound=BaseModel)


def serve_model(model: Path, host: str, port: int, with_guard: bool, api_key: str | None) -> None:
    """Serves until it is interrupted; a port in use is a ``HerdError`` before anything is loaded."""
    with _listen(host, port) as place:
        household = Household.open(model, with_guard=with_guard)
        shown = f"[{host}]" if ":" in host else host
        print(f"serving {household.name} on http://{shown}:{place.getsockname()[1]}", flush=True)
        print(household.describe(), flush=True)
        app = create_app(household, api_key=api_key, loopback_only=host in _LOOPBACK)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
        with suppress(KeyboardInterrupt):
            server.run(sockets=[place])


def _listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address; port 0 takes a free one."""
    place = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind((host, port))
        place.listen()
    except (OSError, OverflowError) as error:
        place.close()
        raise HerdError(f"{host}:{port}: cannot listen there ({getattr(error, 'strerror', None) or error})") from None
    return place


def create_app(household: Household, api_key: str | None = None, loopback_only: bool = True) -> FastAPI:
    """The application; the engine's thread runs for the application's lifetime."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with household.running() as assistant:
            app.state.assistant = assistant
            yield

    door = _Door(api_key, loopback_only)
    app = FastAPI(
        title="Herd",
        version=herd.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(door.admit)],
    )
    app.state.household = household
    _add_errors(app)
    _add_routes(app)
    return app


@dataclass(frozen=True)
class _Door:
    """Who may come in: the holder of the key, by a name of this machine, and no page of another site."""

    api_key: str | None
    loopback_only: bool

    def admit(self, request: Request) -> None:
        """Raises ``ApiError`` for who may not."""
        # A page of another site can send requests to this machine, by its own name or by one that it points here.
        if self.loopback_only and request.url.hostname not in _LOOPBACK:
            raise ApiError(403, f"this server does not answer to the name {request.url.hostname}", "foreign_host")
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
            raise ApiError(403, f"a page of {origin} may not ask this server", "foreign_origin")
        if self.api_key is not None and request.url.path.startswith(("/v1/", "/api/")):
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not secrets.compare_digest(given.encode(), self.api_key.encode()):
                raise ApiError(401, "the API key is missing or wrong", "invalid_api_key")


def _add_errors(app: FastAPI) -> None:
    def answer(error: ApiError) -> JSONResponse:
        return JSONResponse(error.body, error.status, _HEADERS.get(error.status))

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> JSONResponse:
        return answer(error)

    @app.exception_handler(HerdError)
    async def herd_error(request: Request, error: HerdError) -> JSONResponse:
        return answer(as_api_error(error))

    @app.exception_handler(404)
    async def not_found(request: Request, error: Exception) -> JSONResponse:
        return answer(ApiError(404, f"there is no {request.url.path} here", "not_found"))

    @app.exception_handler(405)
    async def wrong_method(request: Request, error: Exception) -> JSONResponse:
        return answer(ApiError(405, f"{request.url.path} does not take {request.method}", "method_not_allowed"))

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        return answer(ApiError(500, "the server failed on this request; its log says why", "server_error"))


def as_api_error(error: HerdError) -> ApiError:
    """The HTTP answer to a mistake: a full queue is 429, an ended engine 503, all else the client's 400."""
    if isinstance(error, QueueFullError):
        return ApiError(429, str(error), "queue_full")
    if isinstance(error, ServiceClosedError):
        return ApiError(503, str(error), "engine_stopped")
    if isinstance(error, ContextFullError):
        return ApiError(400, str(error), "context_length_exceeded", "messages")
    return ApiError(400, str(error), "invalid_value")


async def _read_body(request: Request, kind: type[Body]) -> Body:
    """The body as ``kind``; too long is 413, not JSON or not fitting is 400 with the field's name."""
    data = bytearray()
    try:
        async for piece in request.stream():
            data += piece
            if len(data) > LARGEST_BODY:
                raise ApiError(413, f"the request is longer than {LARGEST_BODY} bytes", "request_too_large")
    except ClientDisconnect:
        raise ApiError(499, "the client has left") from None
    try:
        values = json.loads(data)
        if not isinstance(values, dict):
            raise ApiError(400, "the request is JSON, but no object", "invalid_json")
        return kind.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        why = problem["msg"].removeprefix("Value error, ")
        message = f"{place}: {why}" if place else why
        raise ApiError(400, message, "invalid_value", place or None) from None
    except (ValueError, RecursionError):
        raise ApiError(400, "the request is not JSON", "invalid_json") from None


def _add_routes(app: FastAPI) -> None:
    page = files("herd.serve").joinpath("page.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse)
    async def chat_page() -> HTMLResponse:
        headers = {"Content-Security-Policy": _PAGE_POLICY, "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(page, headers=headers)

    @app.get("/health")
    async def health(request: Request) -> dict[str, Any]:
        return {"status": "ok", **request.app.state.household.figures()}

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        return {"object": "list", "data": [protocol.model_object(*_identity(request))]}

    @app.get("/v1/models/{name}")
    async def model(request: Request, name: str) -> dict[str, Any]:
        _check_model(request, name)
        return protocol.model_object(*_identity(request))

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        wanted = await _read_body(request, ChatRequest)
        _check_model(request, wanted.model)
        household: Household = request.app.state.household
        turn = Turn(request.app.state.assistant, household.name, household.tokenizer, wanted)
        if wanted.stream:
            return await _stream(request, turn.chunks())
        return JSONResponse(await _unless_left(request, turn.whole()))

    @app.post("/api/converse")
    async def converse(request: Request) -> Response:
        wanted = await _read_body(request, ConverseRequest)
        assistant: Assistant = request.app.state.assistant
        sampling = Sampling(temperature=0.0, max_tokens=protocol.DEFAULT_TOKENS)
        return await _stream(request, page_events(assistant.converse(wanted.messages, sampling)))


def _identity(request: Request) -> tuple[str, int]:
    household: Household = request.app.state.household
    return household.name, household.created


def _check_model(request: Request, name: str) -> None:
    known, _ = _identity(request)
    if name != known:
        raise ApiError(404, f"there is no model {name!r} here, only {known!r}", "model_not_found", "model")


async def _stream(request: Request, events: AsyncGenerator[Any, None]) -> StreamingResponse:
    """Server-sent events; what goes wrong before the first one is still an HTTP error."""
    first = await _unless_left(request, _next(events))

    async def lines() -> AsyncIterator[str]:
        async with aclosing(events):
            try:
                yield f"data: {json.dumps(first, ensure_ascii=False)}\n\n"
                async for event in events:
                    yield f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
            except HerdError as error:
                yield f"data: {json.dumps(as_api_error(error).body)}\n\n"
            yield "data: [DONE]\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _next(events: AsyncGenerator[Any, None]) -> Any:
    return await anext(events)


async def _unless_left(request: Request, work: Coroutine[Any, Any, Found]) -> Found:
    """Awaits ``work``, and ends it when the client has gone or the server goes down."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_POLL_SECONDS)
            if not task.done() and await request.is_disconnected():
                raise ApiError(499, "the client has left")
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})


async def page_events(happenings: AsyncGenerator[Happening, None]) -> AsyncGenerator[dict[str, Any], None]:
    """What the chat page shows, one object an event."""
    names = {Text: "text", Call: "call", Result: "result", Refused: "refused", End: "end"}
    async with aclosing(happenings):
        async for happening in happenings:
            yield {"event": names[type(happening)], **{k: v for k, v in asdict(happening).items() if k != "logprobs"}}
