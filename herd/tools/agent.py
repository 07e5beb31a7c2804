"""The loop in which many dialogues call tools together: generate, read, execute, append, until all have an answer.

    dialogues = run_dialogues(engine, [[{"role": "user", "content": "What is 37 * 412 - 5?"}]], tools)

Every round is one batch of the engine over the dialogues that still wait for a message.  A message that is no valid
call and no finished answer ends its dialogue and stays in it with ``malformed`` saying why, so that it can be counted,
and with the ids that were ``written``, since its text alone would be read as something else.
Results do not depend on which dialogues run together: each has its own seed, drawn from its words, and from its count
where the same dialogue is asked for several times (paper section 4.3.5 for the loop).
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from herd.foundation.progress import Progress
from herd.foundation.seeds import derive
from herd.tools.registry import Tool

if TYPE_CHECKING:
    from herd.infer.engine import Engine
    from herd.infer.request import Completion
    from herd.infer.sampling import Sampling

Message = dict[str, Any]

WITHHELD = "This result was withheld by the guard."
"""What a model reads in the place of a tool result that the guard refuses."""


@dataclass(frozen=True)
class ToolResult:
    """A result on its way to the model: which dialogue, what was said in it so far, which tool, what came out."""

    dialogue: int
    messages: Sequence[Message]
    tool: str
    text: str


Change = Callable[[ToolResult], str]
"""Turns a result into the text that the model gets: for tests of injection."""
Guard = Callable[[ToolResult], bool]
"""Whether a result may reach the model."""


def run_dialogues(
    engine: "Engine",
    dialogues: Sequence[Sequence[Message]],
    tools: Mapping[str, Tool],
    sampling: "Sampling",
    *,
    enabled: Sequence[Sequence[str]] | None = None,
    max_calls: int = 4,
    change: Change | None = None,
    guard: Guard | None = None,
    progress: Progress | None = None,
) -> list[list[Message]]:
    """Continues every dialogue until the model has answered, and returns the dialogues whole, in their order.

    ``enabled[i]`` names the tools that are on in dialogue ``i`` (default: all of ``tools``).  The calls of one message
    are executed in their order.  After ``max_calls`` calls one more message is generated; a message whose calls would
    be more than that is not executed and the dialogue ends with it, malformed.
    """
    on = [list(names) for names in enabled] if enabled is not None else [list(tools)] * len(dialogues)
    copies = _copies(dialogues)
    states = [
        _Dialogue(number, list(messages), {name: tools[name] for name in names}, copies[number])
        for number, (messages, names) in enumerate(zip(dialogues, on, strict=True))
    ]
    for round_number in range(max_calls + 1):
        waiting = [state for state in states if not state.ended]
        prompts = [state.prompt(engine) for state in waiting]
        limit = engine.model.config.max_positions
        fitting = [pair for pair in zip(waiting, prompts, strict=True) if pair[0].fits(len(pair[1]), limit)]
        if not fitting:
            break
        samplings = [_sampling(sampling, state, round_number, limit - len(prompt)) for state, prompt in fitting]
        completions = engine.generate([prompt for _, prompt in fitting], samplings, progress=progress)
        for (state, _), (completion,) in zip(fitting, completions, strict=True):
            state.take(engine, completion, max_calls)
            if not state.ended:
                state.execute(change, guard)
    return [state.messages for state in states]


def _sampling(sampling: "Sampling", state: "_Dialogue", round_number: int, room: int) -> "Sampling":
    seed = derive(sampling.seed or 0, *state.names, round_number) % (1 << 31)
    return replace(sampling, seed=seed, max_tokens=min(sampling.max_tokens, room))


def _copies(dialogues: Sequence[Sequence[Message]]) -> list[int]:
    """How many equal dialogues stand before each."""
    seen: Counter[str] = Counter()
    counts = []
    for messages in dialogues:
        words = _words(messages)
        counts.append(seen[words])
        seen[words] += 1
    return counts


def _words(messages: Sequence[Message]) -> str:
    return json.dumps(messages, sort_keys=True, ensure_ascii=False)


class _Dialogue:
    """One dialogue on its way."""

    def __init__(self, number: int, messages: list[Message], tools: dict[str, Tool], copy: int) -> None:
        self.number, self.messages, self._tools = number, messages, tools
        self.names = (_words(messages), copy)
        self.ended = False
        self._executed = 0

    def prompt(self, engine: "Engine") -> list[int]:
        """The ids that the next message is generated from."""
        schemas = [tool.schema() for tool in self._tools.values()]
        return engine.chat.encode(self.messages, tools=schemas, open_assistant=True).ids

    def fits(self, length: int, limit: int) -> bool:
        """Whether anything can still be generated; where not, the dialogue ends without an answer."""
        if length >= limit:
            self._end({"role": "assistant", "content": ""}, "the context is full")
        return length < limit

    def take(self, engine: "Engine", completion: "Completion", max_calls: int) -> None:
        """Reads the generated message and appends it; only valid calls leave the dialogue open."""
        call_id = f"call_{sum(message['role'] == 'assistant' for message in self.messages) + 1}"
        parsed = engine.chat.parse(completion.ids, call_id=call_id)
        if not parsed.well_formed:
            self._end(parsed.message, parsed.problem or "it cannot be read", completion.ids)
        elif not parsed.message.get("tool_calls"):
            self._end(parsed.message, None)
        elif problem := self._problem(parsed.message["tool_calls"], max_calls):
            self._end(parsed.message, problem, completion.ids)
        else:
            self.messages.append(parsed.message)

    def execute(self, change: Change | None, guard: Guard | None) -> None:
        """Runs the calls that the dialogue ends with and appends what the model gets to read of each."""
        for call in self.messages[-1]["tool_calls"]:
            name = call["function"]["name"]
            text = self._tools[name].run(json.loads(call["function"]["arguments"]))
            if change is not None:
                text = change(ToolResult(self.number, self.messages, name, text))
            if guard is not None and not guard(ToolResult(self.number, self.messages, name, text)):
                text = WITHHELD
            self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})
            self._executed += 1

    def _problem(self, calls: Sequence[Mapping[str, Any]], max_calls: int) -> str | None:
        for call in calls:
            name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
            if name not in self._tools:
                return f"the call of {name}, which is not on"
            if problem := self._tools[name].problem(arguments):
                return problem
        return "one call too many" if self._executed + len(calls) > max_calls else None

    def _end(self, message: Message, malformed: str | None, written: Sequence[int] | None = None) -> None:
        marks = {"malformed": malformed} if malformed else {}
        self.messages.append(message | marks | ({"written": list(written)} if written else {}))
        self.ended = True
