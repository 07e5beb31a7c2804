"""Which documents are held out: drawn by a digest of the document's id, within each domain.

The draw depends on the seed and the id alone, so it survives re-runs, other orders and other partitions; a domain with
at least ``minimum_documents`` documents gives at least one, those with the smallest digests being taken.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable

from herd.foundation.config import Config


class SplitConfig(Config):
    """``heldout`` is the share of each domain's documents that training never sees."""

    heldout: float = 0.025
    minimum_documents: int = 10
    seed: int = 0


def draw(document_id: str, seed: int) -> float:
    """A number in [0, 1) that belongs to the document for ever."""
    digest = hashlib.blake2b(f"{seed}\x1fheldout\x1f{document_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def held_out(documents: Iterable[tuple[str, str]], config: SplitConfig) -> set[str]:
    """The ids held out of ``(id, domain)`` pairs: the smallest draws of each domain, its share rounded up."""
    draws: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for identifier, domain in documents:
        draws[domain].append((draw(identifier, config.seed), identifier))
    chosen: set[str] = set()
    for ranked in draws.values():
        if config.heldout > 0 and len(ranked) >= config.minimum_documents:
            ranked.sort()
            chosen.update(identifier for _, identifier in ranked[: math.ceil(len(ranked) * config.heldout)])
    return chosen
