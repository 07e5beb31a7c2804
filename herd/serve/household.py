"""What belongs together around a served model: its engine, the run's search index, the sandbox and the guard.

A model of a run finds the rest beside itself: ``runs/pocket/chat-3m`` has ``runs/pocket/search`` and
``runs/pocket/guard``.  What is not there is left out, and ``describe`` says so.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from herd.foundation.errors import HerdError
from herd.guard.classifier import SETTINGS_NAME, Guard
from herd.infer.engine import Engine
from herd.infer.service import Service
from herd.serve.assistant import Assistant
from herd.serve.gate import Judge, Watch
from herd.tokenizer.special import START_HEADER
from herd.tokenizer.tokenizer import Tokenizer
from herd.tools.registry import Tool, ToolSet, python_tool, search_tool
from herd.tools.sandbox import Sandbox
from herd.tools.search import INDEX_NAME, SearchIndex

WAITING_REQUESTS = 64


@dataclass
class Household:
    """A model ready to be served; ``missing`` says what it has to do without, a sentence's end each."""

    name: str
    engine: Engine
    tools: ToolSet
    guard: Judge | None
    missing: list[str]
    created: int
    sandbox: Sandbox | None = field(default=None, repr=False)
    service: Service | None = field(default=None, repr=False)
    watch: Watch | None = field(default=None, repr=False)

    @classmethod
    def open(cls, model: Path, with_guard: bool = True) -> "Household":
        """Loads the model and what lies beside it; ``HerdError`` where there is no model."""
        directory = model.resolve()
        if not (directory / "config.json").is_file():
            of_run = f"; this is a run, whose model is {model / 'chat'}" if (model / "chat").is_dir() else ""
            raise HerdError(f"{model}: holds no model (there is no config.json){of_run}")
        engine, run, missing = Engine.load(directory), directory.parent, []
        if START_HEADER not in engine.tokenizer.special:
            raise HerdError(
                f"{model}: its tokenizer has no control tokens of a chat, as Llama 2's; it continues text only"
            )
        tools: list[Tool] = []
        sandbox = None
        if (run / "search" / INDEX_NAME).is_file():
            tools.append(search_tool(SearchIndex(run / "search")))
        else:
            missing.append(f"no search, there is no index in {run / 'search'}")
        if reason := Sandbox.unavailable():
            missing.append(f"no interpreter, {reason}")
        else:
            sandbox = Sandbox()
            tools.append(python_tool(sandbox))
        guard = None
        if with_guard and (run / "guard" / SETTINGS_NAME).is_file():
            guard = Guard.load(run / "guard")
        else:
            missing.append("no guard, " + (f"there is none in {run / 'guard'}" if with_guard else "as told"))
        created = int((directory / "config.json").stat().st_mtime)
        return cls(model.name or directory.name, engine, ToolSet(tools), guard, missing, created, sandbox)

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.engine.tokenizer

    def describe(self) -> str:
        """What is at work, in a few words."""
        at_work = [f"tools: {', '.join(self.tools) or 'none'}", "guard on" if self.guard else "guard off"]
        return "; ".join([*at_work, *self.missing])

    def figures(self) -> dict[str, Any]:
        """How busy the server is and what the guard costs: texts judged, its own seconds, and what they waited."""
        load = self.service.load if self.service else None
        guard = None
        if self.watch is not None:
            found = self.watch.figures
            guard = {
                "judged": found.judged,
                "batches": found.batches,
                "seconds": round(found.seconds, 4),
                "mean_wait_ms": round(1000 * found.waited / max(found.judged, 1), 2),
            }
        return {
            "model": self.name,
            "tools": list(self.tools),
            "requests": load.requests if load else 0,
            "request_limit": load.limit if load else 0,
            "guard": guard,
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Assistant]:
        """The assistant, with the engine's thread running; at the end that of the guard and the sandbox end too."""
        async with Service(self.engine, WAITING_REQUESTS) as self.service:
            self.watch = Watch(self.guard) if self.guard else None
            try:
                yield Assistant(self.service, self.tools, self.watch)
            finally:
                if self.watch is not None:
                    await asyncio.to_thread(self.watch.close)
                if self.sandbox is not None:
                    await asyncio.to_thread(self.sandbox.close)
