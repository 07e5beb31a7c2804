"""What the guard forbids, and the words in which it is asked and answers: the format of Llama Guard 3.

The prompt is the paper's (sheet 14.7, Hugging Face spacing) with only those categories that a policy uses; codes keep
Llama Guard's numbers.  Two things are our own: S15, prompt attacks (jailbreaks in prompts, injections in tool
results), where the paper runs a second classifier, and the role ``Tool`` for a tool's result.
Usage: ``guard_prompt(GuardItem("prompt", "How do I ..."), PolicyConfig())``.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import field_validator

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.tokenizer import llama_guard

CATEGORIES = {**llama_guard.CATEGORIES, "S15": "Prompt Attacks"}
SAFE, UNSAFE = "safe", "unsafe"
REFUSAL = "I can't answer that. Can I help with something else?"

Kind = Literal["prompt", "answer", "tool"]
_ROLES: dict[Kind, str] = {"prompt": "User", "answer": "Agent", "tool": "Tool"}


class PolicyConfig(Config):
    """Which categories are forbidden; ``brief`` leaves out the two lines that spell the format of the verdict.

    A model that was trained on the format needs no reminder, and a small vocabulary spends 50 tokens on it.
    """

    categories: tuple[str, ...] = ("S1", "S2", "S7", "S9", "S10", "S11", "S14", "S15")
    brief: bool = True

    @field_validator("categories")
    @classmethod
    def _known(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        for code in codes:
            if code not in CATEGORIES:
                raise ValueError(f"{code!r} is no category; there are {', '.join(CATEGORIES)}")
        if not codes or len(set(codes)) != len(codes):
            raise ValueError("a policy needs at least one category, and each only once")
        return tuple(sorted(codes, key=list(CATEGORIES).index))


@dataclass(frozen=True)
class GuardItem:
    """Something to judge: a user's prompt, an assistant's answer or a tool's result; ``prompt`` is what came before."""

    kind: Kind
    text: str
    prompt: str = ""


def guard_prompt(item: GuardItem, policy: PolicyConfig) -> str:
    """The content of the user message that asks for a verdict on ``item`` (sheet 14.7)."""
    categories = {code: CATEGORIES[code] for code in policy.categories}
    return llama_guard.policy_text(_ROLES[item.kind], categories) + bare_prompt(item, policy)


def bare_prompt(item: GuardItem, policy: PolicyConfig) -> str:
    """The same request without task and categories: the conversation and the question about its last message."""
    role = _ROLES[item.kind]
    turns = [(role, item.text)]
    if item.prompt and item.kind != "prompt":
        turns.insert(0, ("User", item.prompt))
    return llama_guard.conversation_text(turns) + ("" if policy.brief else llama_guard.VERDICT_LINES)


def verdict_text(categories: tuple[str, ...]) -> str:
    """``safe``, or ``unsafe`` with the codes of the violated categories in the policy's order on a second line."""
    if not categories:
        return SAFE
    return f"{UNSAFE}\n{','.join(sorted(categories, key=list(CATEGORIES).index))}"


def parse_verdict(text: str) -> tuple[bool, tuple[str, ...]]:
    """Reads a verdict: (unsafe, categories).  Codes that do not exist are dropped.

    Raises:
        HerdError: if the first line is neither ``safe`` nor ``unsafe``; a guard must not be read as safe by accident.
    """
    first, _, rest = text.strip().partition("\n")
    if first.strip() not in (SAFE, UNSAFE):
        raise HerdError(f"the guard's verdict {text[:40]!r} begins neither with 'safe' nor with 'unsafe'")
    unsafe = first.strip() == UNSAFE
    codes = dict.fromkeys(code.strip() for code in rest.split(",")) if unsafe else {}
    return unsafe, tuple(code for code in codes if code in CATEGORIES)
