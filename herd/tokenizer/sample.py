"""Which documents of a corpus a vocabulary is learnt from: so much of each domain, or of each language.

    characters = characters_by(documents, "domain")
    shares = shares_of(characters, weights, 30_000_000)
    texts = sample_texts(documents, "domain", shares, seed)

Whether a document is in depends on its id and the seed alone, not on its place.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from herd.foundation import seeds
from herd.foundation.errors import HerdError
from herd.tokenizer.documents import read_documents

UNKNOWN = "unknown"
"""The name of a domain or language that a document does not give."""
_HASH_RANGE = 2**63


def characters_by(documents: Path, column: str) -> dict[str, int]:
    """Characters of text for each value of ``column``; ``HerdError`` if there is no text at all."""
    characters: dict[str, int] = defaultdict(int)
    for document in read_documents(documents, ("text", column)):
        characters[document[column] or UNKNOWN] += len(document["text"])
    if not sum(characters.values()):
        raise HerdError(f"{documents}: the corpus is empty, there is nothing to learn a vocabulary from")
    return dict(characters)


def shares_of(characters: Mapping[str, int], weights: Mapping[str, float], wanted: int) -> dict[str, float]:
    """For each name with a weight the share of its documents that are read: its part of ``wanted``, or all it has."""
    whole = sum(weights.values())
    parts = {name: wanted * weight / whole for name, weight in sorted(weights.items())}
    return {name: min(count / characters[name], 1.0) for name, count in parts.items()}


def sample_texts(documents: Path, column: str, shares: Mapping[str, float], seed: int) -> Iterator[str]:
    """The sampled texts, in the order of the files."""
    for document in read_documents(documents, ("id", "text", column)):
        share = shares.get(document[column] or UNKNOWN, 0.0)
        if seeds.derive(seed, "tokenizer sample", document["id"]) < share * _HASH_RANGE:
            yield document["text"]
