"""How a base model takes the same tasks: a few solved examples in plain text, one line per step, the same tools.

A base model has never seen the chat format, so it is shown solved training tasks and goes on after the last question::

    Question: What is 12 * 4?
    Python: 12 * 4
    Result: completed [stdout]48[/stdout]
    Answer: 12 * 4 is 48.

A line ``Search:`` or ``Python:`` is executed and its result appended; ``Answer:`` ends the dialogue; any other line is
malformed and ends it too.  The dialogue comes back as messages, so that the verifiers judge it like any other.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from herd.infer.engine import Engine
from herd.infer.sampling import Sampling
from herd.tasks.task import Message, Task
from herd.tools.agent import Change, ToolResult
from herd.tools.registry import Tool

_LINES = {"Search": ("search", "query"), "Python": ("python", "code")}
_TOOLS = {name: (label, argument) for label, (name, argument) in _LINES.items()}
_ANSWER = "Answer"


def write_example(messages: Sequence[Message]) -> str:
    """A solved dialogue as text, from the user's question to the answer; the system message is left out."""
    return "".join(_line(message) for message in messages if message["role"] != "system")


def _line(message: Message) -> str:
    if message["role"] == "user":
        return f"Question: {_flat(message['content'])}\n"
    if message["role"] == "tool":
        return f"Result: {_flat(message['content'])}\n"
    if calls := message.get("tool_calls"):
        label, argument = _TOOLS[calls[0]["function"]["name"]]
        return f"{label}: {_flat(json.loads(calls[0]['function']['arguments'])[argument])}\n"
    return f"{_ANSWER}: {_flat(message['content'])}\n"


def _flat(text: str | None) -> str:
    return " ".join(str(text or "").split())


@dataclass
class _State:
    """One dialogue on its way."""

    task: Task
    messages: list[Message]
    text: str
    ended: bool = False
    calls: int = 0


def run_plain(
    engine: Engine,
    tasks: Sequence[Task],
    examples: Sequence[Sequence[Message]],
    tools: Mapping[str, Tool],
    sampling: Sampling,
    *,
    max_calls: int = 4,
    change: Change | None = None,
) -> list[list[Message]]:
    """Continues every task's dialogue with a base model; returns the dialogues whole, in the tasks' order.

    As in ``herd.tools.agent.run_dialogues`` a call beyond ``max_calls`` is not executed and ends its dialogue.
    """
    opening = "".join(f"{write_example(example)}\n" for example in examples)
    states = [_State(task, list(task.messages), opening + write_example(task.messages)) for task in tasks]
    line_sampling = replace(sampling, stop=("\n",))
    for _ in range(max_calls + 1):
        waiting = [(number, state) for number, state in enumerate(states) if not state.ended]
        prompts = [[engine.tokenizer.bos_id, *engine.tokenizer.encode(state.text)] for _, state in waiting]
        fitting = [
            (number, state, prompt)
            for (number, state), prompt in zip(waiting, prompts, strict=True)
            if _fits(engine, state, prompt, line_sampling.max_tokens)
        ]
        outputs = engine.generate([prompt for _, _, prompt in fitting], line_sampling)
        for (number, state, _), (output,) in zip(fitting, outputs, strict=True):
            _take(number, state, output.text, tools, max_calls, change)
    return [state.messages for state in states]


def _fits(engine: Engine, state: _State, prompt: Sequence[int], answer: int) -> bool:
    fits = len(prompt) + answer <= engine.model.config.max_positions
    if not fits:
        _end(state, "", "the context is full")
    return fits


def _end(state: _State, content: str, malformed: str | None) -> None:
    message: Message = {"role": "assistant", "content": content}
    state.messages.append({**message, "malformed": malformed} if malformed else message)
    state.ended = True


def _take(
    number: int, state: _State, line: str, tools: Mapping[str, Tool], max_calls: int, change: Change | None
) -> None:
    """Reads one generated line: an answer, a call that is executed, or something else, which ends the dialogue."""
    line = line.strip()
    label, _, rest = line.partition(":")
    rest = rest.strip()
    if label == _ANSWER:
        _end(state, rest, None)
        return
    name, argument = _LINES.get(label, ("", ""))
    if name not in state.task.tools or name not in tools:
        _end(state, line, f"the line {line[:40]!r} is neither an answer nor a call of a tool that is on")
        return
    if state.calls == max_calls:
        _end(state, line, "one call too many")
        return
    state.calls += 1
    arguments = json.dumps({argument: rest}, ensure_ascii=False)
    call = {"id": f"call_{state.calls}", "type": "function", "function": {"name": name, "arguments": arguments}}
    state.messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    result = tools[name].run({argument: rest})
    if change is not None:
        result = change(ToolResult(number, state.messages, name, result))
    state.messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    state.text += _line(state.messages[-2]) + _line(state.messages[-1])


Runner = Callable[[Sequence[Task]], list[list[Message]]]
"""Whatever turns tasks into finished dialogues: an aligned model, a base model, a baseline."""
