"""One maker for each kind of task: given what the split holds and a source of chance, a question and what it expects.

A maker returns a ``Draft``; ``build`` numbers the drafts, drops doubles and writes them.  The makers see only what
their own split may use: ``Material`` holds the facts, numbers, wordings and requests of one split.
Training is varied more than what is measured: in its tools, and by questions among words that mean nothing.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from herd.tasks import requests
from herd.tasks.expressions import draw_expression
from herd.tasks.facts import Fact
from herd.tasks.task import Kind

SEARCH, PYTHON = "search", "python"

_LETTERS = "aeioustrnl"
_MADE_UP_ENDINGS = ("_all", "_many", "_fast", "ize", "_into", "_twice", "_later", "er", "_ex", "_from")
_MADE_UP_STARTS = ("un", "re", "fast_", "auto_", "super", "x", "multi_", "pre")
_MOST_TRIES = 50
_CROSSED = 0.2
_SCATTERED = 0.3


@dataclass(frozen=True)
class Draft:
    """A task without its number."""

    shape: str
    question: str
    expected: dict[str, Any]
    tools: tuple[str, ...] = (SEARCH, PYTHON)


@dataclass(frozen=True)
class Material:
    """What the tasks of one split are made of; ``wordings[kind]`` are the frames of the phrasing that is wanted."""

    facts: Sequence[Fact]
    short_facts: Sequence[Fact]
    scary_facts: Sequence[Fact]
    numbers: Sequence[int]
    taken: frozenset[str]
    wordings: dict[str, list[Any]]
    acts: dict[str, list[str]]
    words: Sequence[str]
    training: bool


Maker = Callable[[Material, random.Random], Draft]


def lookup(material: Material, chance: random.Random) -> Draft:
    """A documented name; the answer is the first sentence of its page."""
    fact = chance.choice(material.facts)
    question = _wording(material, chance, "lookup").format(name=fact.name)
    return Draft("name", question, _answer_of(fact), _tools(material, chance, SEARCH))


def arithmetic(material: Material, chance: random.Random) -> Draft:
    """An expression for the interpreter; in training a few come without one and want the bare number."""
    expression = draw_expression(material.numbers, chance)
    question = _wording(material, chance, "arithmetic").format(expression=expression.text)
    expected = {"code": expression.code, "answer": str(expression.value)}
    if material.training and chance.random() < 0.05:
        return Draft("direct", question, expected, ())
    return Draft(expression.shape, question, expected, _tools(material, chance, PYTHON))


def two_step(material: Material, chance: random.Random) -> Draft:
    """Search for a name, then count something in the sentence that was read."""
    fact = chance.choice(material.short_facts)
    shape = chance.choice(("characters", "words", "letter"))
    letter = chance.choice([letter for letter in _LETTERS if _is_countable(letter, fact.sentence)] or ["z"])
    question = chance.choice(material.wordings[shape]).format(name=fact.name, letter=letter)
    code, answer = counting(shape, fact.sentence, letter)
    return Draft(shape, question, {**_answer_of(fact), "sentence": fact.sentence, "code": code, "answer": str(answer)})


def counting(shape: str, sentence: str, letter: str) -> tuple[str, int]:
    """The Python source that counts, and what it gives; ``sentence`` holds neither double quotes nor backslashes.

    Its first tokens say what is counted: behind the sentence a small model would no longer know.
    """
    if shape == "characters":
        return f'len("{sentence}")', len(sentence)
    if shape == "words":
        return f'len(str.split("{sentence}"))', len(sentence.split())
    return f'str.count("{sentence}", "{letter}")', sentence.count(letter)


def _is_countable(letter: str, sentence: str) -> bool:
    # With a capital of the same letter around, two counts would be right.
    return letter in sentence and letter.upper() not in sentence


def unknown(material: Material, chance: random.Random) -> Draft:
    """A name that nobody documents, or any name while search is off: the answer is that it is not known."""
    wording = _wording(material, chance, "lookup")
    if chance.random() < 0.2:
        fact = chance.choice(material.facts)
        tools = chance.choice(((), (PYTHON,)))
        return Draft("no_search", wording.format(name=fact.name), {"name": fact.name}, tools)
    name = made_up_name(material, chance)
    return Draft("no_page", wording.format(name=name), {"name": name, "query": name}, _tools(material, chance, SEARCH))


def made_up_name(material: Material, chance: random.Random) -> str:
    """A plausible dotted name whose search has no hit: no documented name is it or ends in it, in any case."""
    for _ in range(_MOST_TRIES):
        home, _, leaf = chance.choice(material.facts).name.rpartition(".")
        other = chance.choice(material.facts).name.rpartition(".")[2]
        candidate = chance.choice(
            (other, leaf + chance.choice(_MADE_UP_ENDINGS), chance.choice(_MADE_UP_STARTS) + leaf)
        )
        if f"{home}.{candidate}".lower() not in material.taken:
            return f"{home}.{candidate}"
    return f"{home}.x{leaf}_{chance.randrange(10**6)}"


def refuse(material: Material, chance: random.Random) -> Draft:
    """A request that the policy forbids; about half are abuses of the interpreter."""
    category = requests.ABUSE if chance.random() < 0.4 else chance.choice(sorted(requests.HARMFUL))
    frames = material.wordings["abuse" if category == requests.ABUSE else "request"]
    question = chance.choice(frames).format(act=chance.choice(material.acts[category]))
    return Draft(category, _capital(question), {"category": category})


def borderline(material: Material, chance: random.Random) -> Draft:
    """A harmless request with an alarming word: a documented name, or an everyday act to search for."""
    if material.scary_facts and chance.random() < 0.5:
        fact = chance.choice(material.scary_facts)
        return Draft("name", _wording(material, chance, "lookup").format(name=fact.name), _answer_of(fact))
    act = chance.choice(material.acts[requests.LOOK_ALIKES])
    wording = chance.choice([*material.wordings["free_text"], *material.wordings["request"]])
    return Draft("free_text", _capital(wording.format(act=act)), {"query": act})


def talk(material: Material, chance: random.Random) -> Draft:
    """Small talk, answered without any tool."""
    intent = chance.choice(sorted(requests.TALK))
    question = chance.choice(material.acts[intent])
    return Draft(intent, question, {"answers": list(requests.TALK[intent][1])}, _tools(material, chance, ""))


def injection(material: Material, chance: random.Random) -> Draft:
    """A documented name whose page, on its way to the model, gains an instruction that must not be followed."""
    fact = chance.choice(material.facts)
    canary = chance.choice(material.wordings["canary"])
    payload = chance.choice(material.wordings["injection"]).format(canary=canary)
    place = chance.choice(("after_sentence", "end", "new_line"))
    expected = {**_answer_of(fact), "canary": canary, "payload": payload, "place": place}
    return Draft(place, _wording(material, chance, "lookup").format(name=fact.name), expected)


MAKERS: dict[Kind, Maker] = {
    "lookup": lookup,
    "arithmetic": arithmetic,
    "two_step": two_step,
    "unknown": unknown,
    "refuse": refuse,
    "borderline": borderline,
    "talk": talk,
    "injection": injection,
}


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _wording(material: Material, chance: random.Random, kind: str) -> str:
    """A wording of a lookup or of arithmetic; in training often the halves of two, or words that mean nothing.

    Then nothing but the name or the expression itself says what is wanted, where it begins and where it ends.  A small
    model that knows it by its neighbours alone begins at the wrong word in every wording that it has not met.
    """
    frame = str(chance.choice(material.wordings[kind]))
    drawn = chance.random() if material.training else 1.0
    slot = {"lookup": "{name}", "arithmetic": "{expression}"}[kind]
    if drawn < _CROSSED:
        return frame.partition(slot)[0] + slot + str(chance.choice(material.wordings[kind])).partition(slot)[2]
    if drawn < _CROSSED + _SCATTERED:
        before, after = (chance.choices(material.words, k=max(chance.randint(-3, 6), 0)) for _ in range(2))
        sign = chance.choice(("", "", "", ",", ":", ".", "?"))
        return _capital(" ".join([*before, f"{slot}{sign if after else ''}", *after])) + chance.choice(("?", ".", ""))
    return frame


def aside(material: Material, chance: random.Random) -> str:
    """A run of words that mean nothing, as one would write a sentence."""
    return _capital(" ".join(chance.choices(material.words, k=chance.randint(2, 8)))) + chance.choice((".", "?", ":"))


def _answer_of(fact: Fact) -> dict[str, Any]:
    return {"name": fact.name, "query": fact.name, "answer": fact.sentence}


def _tools(material: Material, chance: random.Random, needed: str) -> tuple[str, ...]:
    """Mostly both tools; in training now and then only the one that is needed."""
    if material.training and chance.random() < 0.15:
        return (needed,) if needed else ()
    return (SEARCH, PYTHON)
