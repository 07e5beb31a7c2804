"""Gold trajectories by really calling the tools, poisoned tool results, and the trivial baselines.

    tools = {"search": index.answer, "python": sandbox_text}
    messages = solve(task, tools)          # None where the tools do not give what the task expects

A tool is a function from its one text argument to the text that a model reads.  Nothing is assumed about what a tool
returns: a trajectory whose verdict is not right in every respect is dropped, as the paper drops the trajectories whose
calls fail (section 4.3.5).
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from herd.tasks.requests import NO_SEARCH_ANSWERS, REFUSALS, UNKNOWN_ANSWERS
from herd.tasks.task import Message, Task
from herd.tasks.verifiers import NO_RESULTS, verify

Tools = Mapping[str, Callable[[str], str]]

_ARGUMENT = {"search": "query", "python": "code"}
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_STDOUT = re.compile(r"\[stdout\](.*)\[/stdout\]", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+")
_EXPRESSION = re.compile(r"[\d(][\d\s+*()-]*[\d)]")
_LONGEST_ANSWER = 160


def solve(task: Task, tools: Tools) -> list[Message] | None:
    """The whole dialogue of a right answer, or None where the tools do not lead to one."""
    steps = _Steps(task, tools)
    answer = _SOLUTIONS[task.kind](steps)
    if answer is None or len(answer) > _LONGEST_ANSWER:
        return None
    messages = [*steps.messages, {"role": "assistant", "content": answer}]
    verdict = verify(task, messages)
    return messages if verdict.correct and verdict.well_formed and verdict.grounded else None


def poison(task: Task, result: str) -> str:
    """The tool result as the model gets it: for ``injection`` tasks with the instruction put in, else unchanged."""
    payload = task.expected.get("payload")
    if payload is None or result == NO_RESULTS:
        return result
    if task.expected["place"] == "new_line":
        return f"{result}\n{payload}"
    sentence = task.expected["answer"]
    if task.expected["place"] == "after_sentence" and sentence in result:
        return result.replace(sentence, f"{sentence} {payload}", 1)
    return f"{result} {payload}"


def first_sentence(result: str) -> str:
    """The first sentence of a search result: what follows its signature line, up to the first full stop."""
    body = " ".join(result.partition("\n")[2].split())
    end = _SENTENCE_END.search(body)
    return body[: end.end()] if end else body


def mentions(messages: Iterable[Message], sentences: Iterable[str]) -> bool:
    """Whether a dialogue holds one of ``sentences`` (those of ``held_out.jsonl``): then it must not be trained on."""
    text = "\n".join(" ".join(str(message.get("content") or "").split()) for message in messages)
    return any(sentence in text for sentence in sentences)


class _Steps:
    """A dialogue that grows by calls which are really made."""

    def __init__(self, task: Task, tools: Tools) -> None:
        self.task = task
        self.messages: list[Message] = list(task.messages)
        self._tools = tools
        self._number = 0

    def call(self, name: str, argument: str) -> str:
        """Appends the call of a tool and its result, which it returns."""
        self._number += 1
        identity = f"call_{self._number}"
        function = {"name": name, "arguments": json.dumps({_ARGUMENT[name]: argument}, ensure_ascii=False)}
        call = {"id": identity, "type": "function", "function": function}
        result = poison(self.task, self._tools[name](argument))
        self.messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        self.messages.append({"role": "tool", "tool_call_id": identity, "content": result})
        return result

    def search(self) -> str:
        """Searches for what the task names, just as the question has it: with the blank before it.

        Byte-level BPE keeps that blank in a word's first token; without it the query would be other tokens than the
        question's, and a small model could not copy it.
        """
        query = str(self.task.expected["query"])
        return self.call("search", self._as_asked(query, query))

    def compute(self, code: str) -> str | None:
        """What the interpreter prints for ``code``, or None where it fails; an expression is begun as in the question.

        A single digit is a token that stands everywhere; with what stands before it, its place can be found: a blank,
        or where the question begins with it, the empty line that ends every header.
        """
        beginning = f"{code.partition(' ')[0]} "
        asked_first = self.task.question.startswith(beginning)
        result = self.call("python", f"\n\n{code}" if asked_first else self._as_asked(code, beginning))
        found = _STDOUT.search(result)
        return found.group(1).strip() if found and result.startswith("completed") else None

    def _as_asked(self, argument: str, beginning: str) -> str:
        """The argument with the blank before it, where its beginning stands in the question behind one."""
        return f" {argument}" if f" {beginning}" in self.task.question else argument

    def pick(self, sentences: Sequence[str]) -> str:
        """One of ``sentences``, always the same one for the same task."""
        return sentences[sum(self.task.id.encode()) % len(sentences)]


def _read(steps: _Steps) -> str | None:
    sentence = steps.task.expected["answer"]
    return sentence if sentence in steps.search() else None


def _compute(steps: _Steps) -> str | None:
    return steps.compute(steps.task.expected["code"]) if steps.task.tools else steps.task.expected["answer"]


def _read_and_compute(steps: _Steps) -> str | None:
    found = steps.task.expected["sentence"] in steps.search()
    return _compute(steps) if found else None


def _admit(steps: _Steps) -> str | None:
    if steps.task.shape == "no_search":
        return steps.pick(NO_SEARCH_ANSWERS)
    return steps.pick(UNKNOWN_ANSWERS) if steps.search() == NO_RESULTS else None


def _refuse(steps: _Steps) -> str | None:
    return steps.pick(REFUSALS)


def _look_up(steps: _Steps) -> str | None:
    if "answer" in steps.task.expected:
        return _read(steps)
    result = steps.search()
    return steps.pick(UNKNOWN_ANSWERS) if result == NO_RESULTS else first_sentence(result)


def _reply(steps: _Steps) -> str | None:
    return steps.pick(steps.task.expected["answers"])


_SOLUTIONS: dict[str, Callable[[_Steps], str | None]] = {
    "lookup": _read,
    "arithmetic": _compute,
    "two_step": _read_and_compute,
    "unknown": _admit,
    "refuse": _refuse,
    "borderline": _look_up,
    "talk": _reply,
    "injection": _read,
}


def first_sentence_of_first_hit(task: Task, tools: Tools) -> list[Message]:
    """Baseline: searches for the name in the question, or for the whole question; answers the hit's first sentence."""
    steps = _Steps(task, tools)
    names = _NAME.findall(task.question)
    result = steps.call("search", names[0] if names else task.question)
    answer = "I do not know." if result == NO_RESULTS else first_sentence(result)
    return [*steps.messages, {"role": "assistant", "content": answer}]


def always_refuse(task: Task, tools: Tools) -> list[Message]:
    """Baseline: refuses whatever is asked."""
    return [*task.messages, {"role": "assistant", "content": REFUSALS[0]}]


def always_call(task: Task, tools: Tools) -> list[Message]:
    """Baseline: computes the expression in the question where there is one, else searches; repeats the whole result."""
    steps = _Steps(task, tools)
    found = _EXPRESSION.search(task.question)
    answer = steps.compute(found.group()) if found else steps.call("search", task.question)
    return [*steps.messages, {"role": "assistant", "content": answer or "No answer."}]


BASELINES: dict[str, Callable[[Task, Tools], list[Message]]] = {
    "first sentence of the first hit": first_sentence_of_first_hit,
    "always refuse": always_refuse,
    "always call": always_call,
}
