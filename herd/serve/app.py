"""The HTTP server: OpenAI's chat API, health, the list of models, and the chat page with its own stream.

    herd serve runs/pocket/chat --port 8080

Loopback unless told otherwise.  What waits is bounded (429), requests have a size limit (413), a client that leaves
ends its generation, and the guard of the model's run stands before prompts, tool results and answers.
"""

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.middleware.trustedhost import TrustedHostMiddleware

import herd
from herd.foundation.errors import HerdError
from herd.infer.sampling import Sampling
from herd.infer.service import QueueFullError, ServiceClosedError
from herd.serve import protocol
from herd.serve.assistant import Assistant, Call, End, Happening, Refused, Result, Text
from herd.serve.household import Household
from herd.serve.protocol import ApiError, ChatRequest

LARGEST_BODY = 1 << 20
_POLL_SECONDS = 0.1
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class PageRequest(BaseModel):
    """What the chat page sends: the conversation so far."""

    model_config = ConfigDict(extra="forbid")

    messages: list[dict[str, Any]] = Field(min_length=1, max_length=256)


def serve_model(model: Path, host: str, port: int, with_guard: bool, api_key: str | None) -> None:
    """Serves until it is interrupted; a port in use is a ``HerdError`` before anything is loaded."""
    _check_port(host, port)
    household = Household.open(model, with_guard=with_guard)
    print(f"serving {household.name} on http://{host}:{port} ({household.describe()})", flush=True)
    app = create_app(household, api_key=api_key, loopback_only=host in _LOOPBACK)
    uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=5)


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise HerdError(f"{host}:{port}: cannot listen there ({getattr(error, 'strerror', error)})") from None


def create_app(household: Household, api_key: str | None = None, loopback_only: bool = True) -> FastAPI:
    """The application; the engine's thread runs for the application's lifetime."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with household.running() as assistant:
            app.state.assistant = assistant
            yield

    app = FastAPI(title="Herd", version=herd.__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.household = household
    if loopback_only:
        # A page of another site must not reach this server through a name that it points here.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]", "testserver"])
    _add_errors(app)
    _add_checks(app, api_key)
    _add_routes(app)
    return app


def _add_errors(app: FastAPI) -> None:
    def answer(error: ApiError) -> JSONResponse:
        headers = {"Retry-After": "1"} if error.status == 429 else None
        return JSONResponse(error.body, error.status, headers)

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> JSONResponse:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(ApiError(400, str(error.errors()[0]["msg"])))

    @app.exception_handler(HerdError)
    async def herd_error(request: Request, error: HerdError) -> JSONResponse:
        return answer(as_api_error(error))

    @app.exception_handler(404)
    async def not_found(request: Request, error: Exception) -> JSONResponse:
        return answer(ApiError(404, f"there is no {request.url.path} here", "not_found"))

    @app.exception_handler(405)
    async def wrong_method(request: Request, error: Exception) -> JSONResponse:
        return answer(ApiError(405, f"{request.url.path} does not take {request.method}", "method_not_allowed"))


def as_api_error(error: HerdError) -> ApiError:
    """The HTTP answer to a mistake: a full queue is 429, an ended engine 503, all else the client's 400."""
    if isinstance(error, QueueFullError):
        return ApiError(429, str(error), "queue_full")
    if isinstance(error, ServiceClosedError):
        return ApiError(503, str(error), "engine_stopped")
    return ApiError(400, str(error))


def _add_checks(app: FastAPI, api_key: str | None) -> None:
    @app.middleware("http")
    async def check(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        protected = request.url.path.startswith(("/v1/", "/api/"))
        if api_key is not None and protected:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not secrets.compare_digest(given.encode(), api_key.encode()):
                error = ApiError(401, "the API key is missing or wrong", "invalid_api_key")
                return JSONResponse(error.body, 401, {"WWW-Authenticate": "Bearer"})
        return await go_on(request)


async def _read_body(request: Request, kind: type[BaseModel]) -> Any:
    """The body as ``kind``; too long is 413, not JSON or not fitting is 400 with the field's name."""
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > LARGEST_BODY:
            raise ApiError(413, f"the request is longer than {LARGEST_BODY} bytes", "request_too_large")
    try:
        return kind.model_validate(json.loads(data))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise ApiError(400, f"{place}: {problem['msg']}", "invalid_value", place or None) from None
    except (ValueError, RecursionError):
        raise ApiError(400, "the request is not JSON", "invalid_json") from None


def _add_routes(app: FastAPI) -> None:
    page = files("herd.serve").joinpath("page.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse)
    async def chat_page() -> HTMLResponse:
        policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"
        return HTMLResponse(page, headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})

    @app.get("/health")
    async def health(request: Request) -> dict[str, Any]:
        return {"status": "ok", **request.app.state.household.figures()}

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        household = request.app.state.household
        entry = {"id": household.name, "object": "model", "created": household.created, "owned_by": "herd"}
        return {"object": "list", "data": [entry]}

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        wanted: ChatRequest = await _read_body(request, ChatRequest)
        household: Household = request.app.state.household
        if wanted.model != household.name:
            raise ApiError(
                404, f"there is no model {wanted.model!r} here, only {household.name!r}", "model_not_found", "model"
            )
        turn = _Turn(request.app.state.assistant, household, wanted)
        if not wanted.stream:
            return JSONResponse(await _unless_left(request, turn.whole()))
        if wanted.n > 1:
            raise ApiError(400, "n above 1 cannot be streamed", "invalid_value", "n")
        return await _stream(turn.chunks())

    @app.post("/api/converse")
    async def converse(request: Request) -> Response:
        wanted: PageRequest = await _read_body(request, PageRequest)
        assistant: Assistant = request.app.state.assistant
        sampling = Sampling(temperature=0.0, max_tokens=protocol.DEFAULT_TOKENS)
        return await _stream(page_events(assistant.converse(wanted.messages, sampling)))


async def _stream(events: AsyncGenerator[Any, None]) -> StreamingResponse:
    """Server-sent events; what goes wrong before the first one is still an HTTP error."""
    try:
        first = await anext(events)
    except StopAsyncIteration:
        first = None

    async def lines() -> AsyncIterator[str]:
        async with aclosing(events):
            try:
                if first is not None:
                    yield f"data: {json.dumps(first, ensure_ascii=False)}\n\n"
                async for event in events:
                    yield f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
            except HerdError as error:
                yield f"data: {json.dumps(as_api_error(error).body)}\n\n"
            yield "data: [DONE]\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _unless_left(request: Request, work: Awaitable[Any]) -> Any:
    """Awaits ``work``, and ends it when the client has gone."""
    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.wait({task}, timeout=_POLL_SECONDS)
        if await request.is_disconnected():
            task.cancel()
            raise ApiError(499, "the client has left")
    return task.result()


class _Turn:
    """One API request on its way to an answer, whole or in chunks."""

    def __init__(self, assistant: Assistant, household: Household, wanted: ChatRequest) -> None:
        self.assistant, self.household, self.wanted = assistant, household, wanted
        self.id = protocol.completion_id()
        self.tools = [] if wanted.tool_choice == "none" else wanted.tools
        prompt = assistant.prompt_ids(wanted.messages, self.tools)
        room = assistant.room(prompt)
        if room < 1:
            limit = len(prompt) + room
            raise ApiError(
                400,
                f"the messages are {len(prompt)} tokens long, the context has {limit}",
                "context_length_exceeded",
                "messages",
            )
        self.sampling = wanted.sampling(room)

    def _happenings(self, number: int = 0) -> AsyncGenerator[Happening, None]:
        sampling = self.sampling
        if number and sampling.seed is not None:
            sampling = Sampling(**{**vars(sampling), "seed": sampling.seed + number})
        return self.assistant.reply(self.wanted.messages, self.tools, sampling)

    async def whole(self) -> dict[str, Any]:
        """The answer as one object, with ``n`` choices."""
        choices = await asyncio.gather(*(self._choice(number) for number in range(self.wanted.n)))
        ends = [end for _, end in choices]
        used = protocol.usage(ends[0].prompt_tokens, sum(end.completion_tokens for end in ends))
        return protocol.completion(self.id, self.household.name, [choice for choice, _ in choices], used)

    async def _choice(self, number: int) -> tuple[dict[str, Any], End]:
        logprobs, end = [], None
        async with aclosing(self._happenings(number)) as happenings:
            async for happening in happenings:
                if isinstance(happening, Text):
                    logprobs += happening.logprobs
                elif isinstance(happening, End):
                    end = happening
        assert end is not None, "every reply ends with an End"
        found = protocol.logprobs_object(self.household.tokenizer, logprobs) if self.wanted.logprobs else None
        message = {"content": None, **end.message}
        return {"index": number, "message": message, "finish_reason": end.finish_reason, "logprobs": found}, end

    async def chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        """The answer in OpenAI's chunks."""
        name, tokenizer, end = self.household.name, self.household.tokenizer, None
        async with aclosing(self._happenings()) as happenings:
            yield protocol.chunk(self.id, name, {"role": "assistant", "content": ""})
            async for happening in happenings:
                if isinstance(happening, Text):
                    found = protocol.logprobs_object(tokenizer, happening.logprobs) if self.wanted.logprobs else None
                    yield protocol.chunk(self.id, name, {"content": happening.text}, logprobs=found)
                elif isinstance(happening, Call):
                    yield protocol.chunk(self.id, name, {"tool_calls": [{"index": 0, **happening.call}]})
                elif isinstance(happening, End):
                    end = happening
                    yield protocol.chunk(self.id, name, {}, end.finish_reason)
        if end is not None and self.wanted.stream_options and self.wanted.stream_options.include_usage:
            used = protocol.usage(end.prompt_tokens, end.completion_tokens)
            yield {**protocol.chunk(self.id, name, {}), "choices": [], "usage": used}


async def page_events(happenings: AsyncGenerator[Happening, None]) -> AsyncGenerator[dict[str, Any], None]:
    """What the chat page shows, one object an event."""
    names = {Text: "text", Call: "call", Result: "result", Refused: "refused", End: "end"}
    async with aclosing(happenings):
        async for happening in happenings:
            yield {"event": names[type(happening)], **{k: v for k, v in asdict(happening).items() if k != "logprobs"}}
