"""A conversation in the terminal: ``herd chat runs/pocket/chat``.

Tool calls and their results are shown as they happen.  An empty line is ignored, ``/new`` begins again, ``/quit`` or
the end of the input leaves; Ctrl-C ends an answer, or leaves where there is none.
"""

import asyncio
import json
import os
import select
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text as Styled

from herd.foundation.errors import HerdError
from herd.infer.sampling import Sampling
from herd.serve.assistant import Assistant, Call, End, Refused, Result, Text
from herd.serve.household import Household
from herd.serve.protocol import DEFAULT_TOKENS

# What a model or a page says must not move the cursor or change colours.
_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def talk(model: Path, with_guard: bool = True, temperature: float = 0.0) -> None:
    """Talks until the person leaves."""
    household = Household.open(model, with_guard=with_guard)
    console = Console(highlight=False)
    console.print(Styled(f"{household.name} ({household.describe()}); /new begins again, /quit leaves", style="dim"))
    sampling = Sampling(temperature=temperature, max_tokens=DEFAULT_TOKENS)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        assistant = runner.run(stack.enter_async_context(household.running()))
        try:
            # Between an answer and the next prompt a Ctrl-C means what it means at the prompt.
            with suppress(KeyboardInterrupt):
                _talk(runner, assistant, console, sampling)
        finally:
            with _deaf():
                runner.run(stack.aclose())


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignores Ctrl-C: whoever leaves and presses it again must not tear what is being closed."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _talk(runner: asyncio.Runner, assistant: Assistant, console: Console, sampling: Sampling) -> None:
    messages: list[dict[str, Any]] = []
    while (words := _read()) not in (None, "/quit"):
        if words == "/new":
            messages = []
        elif words:
            asked = [*messages, {"role": "user", "content": words}]
            try:
                messages = runner.run(_answer(assistant, console, asked, sampling))
            except KeyboardInterrupt:
                console.print(Styled("\n  stopped", style="dim"))
            except HerdError as error:
                console.print(Styled(f"herd: {error}", style="red"))


def _read() -> str | None:
    """A line of the person's, or None where they leave."""
    try:
        if sys.stdin.isatty():
            print("\nyou › ", end="", flush=True)
            _wait_for_line()
        return input().strip()
    except (EOFError, KeyboardInterrupt):
        return None


def _wait_for_line() -> None:
    """Until a line can be read, or a signal comes.

    ``input`` alone sleeps through a Ctrl-C that comes just before it begins to read.  Here the signal writes into a
    pipe that is waited for as well, so that none is missed.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    before = signal.set_wakeup_fd(wake)
    try:
        select.select([sys.stdin, woken], [], [])
    finally:
        signal.set_wakeup_fd(before)
        os.close(woken)
        os.close(wake)


async def _answer(
    assistant: Assistant, console: Console, messages: list[dict[str, Any]], sampling: Sampling
) -> list[dict[str, Any]]:
    """Shows one answer as it comes and returns the conversation with it."""
    dialogue, flow = list(messages), Flow(console)
    async with aclosing(assistant.converse(messages, sampling)) as happenings:
        async for happening in happenings:
            if isinstance(happening, Text):
                flow.write(happening.text)
                continue
            if isinstance(happening, End):
                dialogue.append(happening.message)
            else:
                flow.end()
                _show(console, happening)
            if isinstance(happening, Result):
                dialogue.append({"role": "tool", "tool_call_id": happening.call_id, "content": happening.text})
    flow.end()
    return dialogue


def _show(console: Console, happening: object) -> None:
    match happening:
        case Call(call=call, warnings=warnings):
            _row(console, "→", f"{call['function']['name']} {_asked(call)}", "cyan")
            for warning in warnings:
                _row(console, "!", warning, "yellow")
        case Result(text=text):
            _row(console, "←", text, "dim")
        case Refused(stage=stage, categories=categories):
            named = f" ({', '.join(categories)})" if categories else ""
            _row(console, "!", f"the guard stopped this {stage}{named}", "yellow")


def _asked(call: Mapping[str, Any]) -> str:
    """What a call asks for: its one argument as it is, several as JSON."""
    given = json.loads(call["function"]["arguments"])
    return str(*given.values()).strip() if len(given) == 1 else json.dumps(given, ensure_ascii=False)


def _row(console: Console, mark: str, text: str, style: str) -> None:
    """A mark, and beside it the text in as many lines as it needs."""
    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_column(width=3, justify="right")
    row.add_column(overflow="fold")
    row.add_row(Styled(mark, style=style), Styled(clean(text), style=style))
    console.print(row)


def clean(text: str) -> str:
    """``text`` without control characters, which a terminal would obey."""
    return text.translate(_CONTROLS)


class Flow:
    """Text that comes in pieces, broken between words at the terminal's width."""

    def __init__(self, console: Console) -> None:
        self._console, self._column, self._word = console, 0, ""

    def write(self, text: str) -> None:
        """Shows ``text`` but for its last word, which may go on."""
        for character in clean(text):
            if character.isspace():
                self._show_word()
                self._space(character)
            else:
                self._word += character
                if len(self._word) >= self._console.width:
                    self._show_word()

    def end(self) -> None:
        """Shows the rest and ends the line, if there is one."""
        self._show_word()
        if self._column:
            self._space("\n")

    def _show_word(self) -> None:
        width = Styled(self._word).cell_len
        if self._column and self._column + width > self._console.width:
            self._space("\n")
        self._out(self._word)
        self._column += width
        self._word = ""

    def _space(self, character: str) -> None:
        if character == "\n":
            self._out("\n")
            self._column = 0
        elif 0 < self._column < self._console.width:
            self._out(" ")
            self._column += 1

    def _out(self, text: str) -> None:
        self._console.out(text, end="", highlight=False)
        self._console.file.flush()
