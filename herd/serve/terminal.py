"""A conversation in the terminal: ``herd chat runs/pocket/chat``.

Tool calls and their results are shown as they happen.  An empty line is ignored, ``/new`` begins again, ``/quit`` or
the end of the input leaves.
"""

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text as Styled

from herd.foundation.errors import HerdError
from herd.infer.sampling import Sampling
from herd.serve.assistant import Assistant, Call, End, Refused, Result, Text, call_text
from herd.serve.household import Household
from herd.serve.protocol import DEFAULT_TOKENS


def talk(model: Path, with_guard: bool = True, temperature: float = 0.0) -> None:
    """Talks until the person leaves."""
    household = Household.open(model, with_guard=with_guard)
    console = Console(highlight=False)
    console.print(Styled(f"{household.name} ({household.describe()}); /new begins again, /quit leaves", style="dim"))
    asyncio.run(_talk(household, console, Sampling(temperature=temperature, max_tokens=DEFAULT_TOKENS)))


async def _talk(household: Household, console: Console, sampling: Sampling) -> None:
    messages: list[dict[str, Any]] = []
    async with household.running() as assistant:
        while (words := await asyncio.to_thread(_read)) is not None:
            if words == "/quit":
                return
            if words == "/new":
                messages = []
            elif words:
                messages.append({"role": "user", "content": words})
                messages = await _answer(assistant, console, messages, sampling)


def _read() -> str | None:
    """A line of the person's, or None at the end of the input."""
    try:
        return input("\nyou › " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None


async def _answer(
    assistant: Assistant, console: Console, messages: list[dict[str, Any]], sampling: Sampling
) -> list[dict[str, Any]]:
    """Shows one answer as it comes; returns the conversation with it, or without the question where it failed."""
    dialogue = list(messages)
    try:
        async with aclosing(assistant.converse(messages, sampling)) as happenings:
            async for happening in happenings:
                _show(console, happening)
                if isinstance(happening, End):
                    dialogue.append(happening.message)
                elif isinstance(happening, Result):
                    dialogue.append({"role": "tool", "tool_call_id": happening.call_id, "content": happening.text})
    except HerdError as error:
        console.print(Styled(f"herd: {error}", style="red"))
        return messages[:-1]
    console.print()
    return dialogue


def _show(console: Console, happening: object) -> None:
    match happening:
        case Text(text=text):
            console.print(Styled(text), end="")
        case Call(call=call):
            console.print(Styled(f"  → {call['function']['name']} {call_text(call)}", style="cyan"))
        case Result(text=text):
            console.print(Styled("\n".join(f"  ← {line}" for line in text.splitlines()), style="dim"))
        case Refused(stage=stage, categories=categories):
            named = f" ({', '.join(categories)})" if categories else ""
            console.print(Styled(f"  the guard stopped this {stage}{named}", style="yellow"))
