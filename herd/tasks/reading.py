"""Long texts with facts in them, and a question about one: practice in reading far back (paper, section 4.3.4).

    text, question, answer = long_text(texts, 5000, random_from(7, "reading"))

Places, wordings and numbers are others than those of the needle that is measured (``herd/evaluate/needle.py``).
"""

import random
from collections.abc import Sequence

from herd.tasks.phrasings import FACTS, PLACES, SORTS, THINGS

_MOST_FACTS = 5
_MOST_PLACES = 3
_PLAIN_FACTS = 0.25
_QUESTIONS = ("What is the {subject}?", "What is the {subject}? Answer with the number.", "Tell me the {subject}.")
_ENDS = (0, 2, 3, 5, 6, 8, 9)
"""Last digits of the numbers; those that the measurement hides have the others."""


def long_text(texts: Sequence[str], characters: int, chance: random.Random) -> tuple[str, str, str]:
    """Texts of about so many characters with facts between them; a question about one of these; and its answer.

    The answer is the whole sentence: in saying it again, a small model finds its place and so the number.  Few places
    make facts that resemble each other.
    """
    places = chance.sample(PLACES, _MOST_PLACES)
    drawn = [_subject(chance.choice(places), chance) for _ in range(chance.randint(1, _MOST_FACTS))]
    facts = {subject: f"The {subject} is {_number(chance)}." for subject in drawn}
    pieces: list[str] = []
    while sum(map(len, pieces)) < characters:
        pieces.append(chance.choice(texts))
    for fact in facts.values():
        pieces.insert(chance.randint(0, len(pieces)), fact)
    text = "".join(piece + chance.choice(("\n", "\n\n")) for piece in pieces).rstrip()
    return text, chance.choice(_QUESTIONS).format(subject=drawn[0]), facts[drawn[0]]


def _subject(place: str, chance: random.Random) -> str:
    if chance.random() < _PLAIN_FACTS:
        return chance.choice(FACTS).format(place=place)
    return f"{chance.choice(SORTS)} {chance.choice(THINGS)} of {place}"


def _number(chance: random.Random) -> str:
    return str(chance.randrange(100, 1000) * 10 + chance.choice(_ENDS))
