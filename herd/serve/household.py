"""What belongs together around a served model: its engine, the run's search index, the sandbox and the guard.

A model of a run finds the rest beside itself: ``runs/pocket/chat-3m`` has ``runs/pocket/search`` and
``runs/pocket/guard``.  What is not there is left out, and ``describe`` says so.
"""

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
from herd.serve.gate import Watch
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
    guard: Guard | None
    missing: list[str]
    created: int
    service: Service | None = None
    watch: Watch | None = field(default=None, repr=False)

    @classmethod
    def open(cls, model: Path, with_guard: bool = True) -> "Household":
        """Loads the model and what lies beside it; ``HerdError`` where there is no model."""
        directory = model.resolve()
        if not (directory / "config.json").is_file():
            raise HerdError(f"{model}: holds no model (there is no config.json)")
        engine, run, missing = Engine.load(directory), directory.parent, []
        tools: list[Tool] = []
        if (run / "search" / INDEX_NAME).is_file():
            tools.append(search_tool(SearchIndex(run / "search")))
        else:
            missing.append(f"no search, there is no index in {run / 'search'}")
        if reason := Sandbox.unavailable():
            missing.append(f"no interpreter, {reason}")
        else:
            tools.append(python_tool(Sandbox()))
        guard = None
        if with_guard and (run / "guard" / SETTINGS_NAME).is_file():
            guard = Guard.load(run / "guard")
        else:
            missing.append("no guard, " + (f"there is none in {run / 'guard'}" if with_guard else "as told"))
        created = int((directory / "config.json").stat().st_mtime)
        return cls(model.name, engine, ToolSet(tools), guard, missing, created)

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.engine.tokenizer

    def describe(self) -> str:
        """What is at work, in a few words."""
        at_work = [f"tools: {', '.join(self.tools) or 'none'}", "guard on" if self.guard else "guard off"]
        return "; ".join([*at_work, *self.missing])

    def figures(self) -> dict[str, Any]:
        """How busy the server is and what the guard costs."""
        load = self.service.load if self.service else None
        watch = self.watch
        return {
            "model": self.name,
            "tools": list(self.tools),
            "requests": load.requests if load else 0,
            "request_limit": load.limit if load else 0,
            "guard": {"judged": watch.judged, "seconds": round(watch.seconds, 4)} if watch else None,
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Assistant]:
        """The assistant, with the engine's thread running."""
        async with Service(self.engine, WAITING_REQUESTS) as self.service:
            self.watch = Watch(self.guard) if self.guard else None
            yield Assistant(self.service, self.tools, self.watch)
