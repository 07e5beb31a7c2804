"""From what there is to the mix that is wanted: how often each domain's documents should be seen.

The paper's final mix is about 50% general knowledge, 25% math and reasoning, 17% code and 8% multilingual (section
3.1.2).  A domain that the sources lack, or could only fill by repeating itself too often, gives its share to the others
in proportion; the plan says so in sentences.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import field_validator

from herd.corpus.domains import DOMAINS
from herd.foundation.config import Config


class MixConfig(Config):
    """Target shares of the tokens, and how many times more often than its natural share a domain may be seen."""

    shares: dict[str, float] = {"general": 0.50, "math": 0.25, "code": 0.17, "multilingual": 0.08}
    maximum_repeat: float = 8.0

    @field_validator("shares")
    @classmethod
    def _known_and_positive(cls, shares: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(shares) - set(DOMAINS))
        if unknown:
            raise ValueError(f"unknown domain {unknown[0]!r}; domains are {', '.join(DOMAINS)}")
        if min(shares.values(), default=0.0) < 0 or sum(shares.values()) <= 0:
            raise ValueError("shares must not be negative and must add up to more than zero")
        return shares


@dataclass(frozen=True)
class Mix:
    """``shares`` add up to one; ``weights`` is how often a document of the domain counts (1: as it is there)."""

    shares: dict[str, float]
    weights: dict[str, float]
    natural: dict[str, float]
    notes: list[str] = field(default_factory=list)


def plan_mix(sizes: Mapping[str, float], config: MixConfig) -> Mix:
    """The mix for domains of these sizes (characters or tokens); a domain without a target share gets weight zero."""
    return plan_shares(sizes, config.shares, config.maximum_repeat)


def plan_shares(sizes: Mapping[str, float], targets: Mapping[str, float], maximum_repeat: float) -> Mix:
    """The same for parts of any kind: domains, or the languages of one."""
    total = sum(sizes.values())
    natural = {domain: size / total for domain, size in sizes.items() if size > 0}
    wanted = {domain: targets.get(domain, 0.0) for domain in natural}
    notes = [
        f"no {domain} documents: its {share:.0%} goes to the other domains in proportion"
        for domain, share in targets.items()
        if share > 0 and domain not in natural
    ]
    if sum(wanted.values()) <= 0:
        notes.append("no target share can be met: documents are taken as they are")
        return Mix(natural, dict.fromkeys(natural, 1.0), natural, notes)
    shares = capped(wanted, {domain: share * maximum_repeat for domain, share in natural.items()})
    scale = sum(wanted.values())
    for domain, share in shares.items():
        if share < wanted[domain] / scale - 1e-9:
            reached = f"{domain} reaches {share:.1%} of {wanted[domain]:.0%}"
            notes.append(f"{reached}: more would repeat it over {maximum_repeat:g} times")
    return Mix(shares, {domain: shares[domain] / natural[domain] for domain in shares}, natural, notes)


def capped(wanted: dict[str, float], caps: dict[str, float]) -> dict[str, float]:
    """Shares in proportion to ``wanted``, none above its cap, adding up to one (caps add up to one at least)."""
    fixed: dict[str, float] = {}
    while True:
        free = {domain: share for domain, share in wanted.items() if domain not in fixed and share > 0}
        left = 1.0 - sum(fixed.values())
        if not free:
            scale = sum(fixed.values()) or 1.0
            return {domain: fixed.get(domain, 0.0) / scale for domain in wanted}
        scale = left / sum(free.values())
        over = {domain: caps[domain] for domain, share in free.items() if share * scale > caps[domain] + 1e-12}
        if not over:
            return {domain: fixed.get(domain, free.get(domain, 0.0) * scale) for domain in wanted}
        fixed |= over
