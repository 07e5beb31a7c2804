"""Long texts with a few facts in them, and a question about one: practice in reading far back (paper, section 4.3.4).

    question, answer = long_question(texts, 5000, random_from(7, "reading"))

Places, wordings and numbers are others than those of the needle that is measured (``herd/evaluate/needle.py``).
"""

import random
from collections.abc import Sequence

from herd.tasks.phrasings import FACTS, PLACES, SORTS, THINGS

_MOST_FACTS = 3
_PLAIN_FACTS = 0.25
_ENDS = (0, 2, 3, 5, 6, 8, 9)
"""Last digits of the numbers; those that the measurement hides have the others."""


def long_question(texts: Sequence[str], characters: int, chance: random.Random) -> tuple[str, str]:
    """Texts of about so many characters with facts between them and a question at their end; and its answer.

    The answer is the whole sentence: in saying it again, a small model finds its place and so the number.
    """
    count = chance.randint(1, _MOST_FACTS)
    subjects = [_subject(place, chance) for place in chance.sample(PLACES, count)]
    facts = [f"The {subject} is {_number(chance)}." for subject in subjects]
    pieces: list[str] = []
    while sum(map(len, pieces)) < characters:
        pieces.append(chance.choice(texts))
    for fact in facts:
        pieces.insert(chance.randint(0, len(pieces)), fact)
    question = f"What is the {subjects[0]}?{chance.choice(('', ' Answer with the number.'))}"
    return "\n\n".join([*pieces, question]), facts[0]


def _subject(place: str, chance: random.Random) -> str:
    if chance.random() < _PLAIN_FACTS:
        return chance.choice(FACTS).format(place=place)
    return f"{chance.choice(SORTS)} {chance.choice(THINGS)} of {place}"


def _number(chance: random.Random) -> str:
    return str(chance.randrange(100, 1000) * 10 + chance.choice(_ENDS))
