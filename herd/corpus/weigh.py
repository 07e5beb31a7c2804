"""The mix of a finished corpus: topics that the web has too much of go down, domains and languages get their weights.

    herd mix corpus --topics topics --set 'most={entertainment: 0.05}' --set 'languages={de: 0.3}' --out mixed

As in the paper (section 3.1.2): a knowledge classifier says what each document is about, over-represented topics are
down-sampled, and the domains take their target shares.  Which documents of a topic go is drawn by a digest of their
ids, so that it does not depend on their order or on other documents; they lie among the rejects.  ``weight`` says how
often a document should be seen; with ``split_languages`` every language becomes a domain of its own, whose share in
``stats.json`` can stand in a recipe's ``mix.weights`` as it is.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field, field_validator

from herd.corpus.documents import Row, read_documents
from herd.corpus.domains import DOMAINS
from herd.corpus.mix import Mix, MixConfig, capped, plan_mix, plan_shares
from herd.corpus.rewrite import Rewrite
from herd.corpus.split import draw
from herd.corpus.topics import TopicModel, load_topics
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.foundation.seeds import derive

UNSURE = "unsure"
FOREIGN = "multilingual"
_FIELDS = (pa.field("topic", pa.string()), pa.field("topic_confidence", pa.float32()))

Sizes = Mapping[tuple[str, str], int]


class WeighConfig(Config):
    """``most`` gives topics the largest share of the characters of ``topic_domains`` that they may keep.

    A topic that the classifier is less sure of than ``confidence`` counts as "unsure".  ``languages`` are shares of the
    multilingual documents; languages that it does not name divide the rest by their sizes.
    """

    mix: MixConfig = MixConfig()
    languages: dict[str, float] = {}
    split_languages: bool = False
    most: dict[str, float] = {}
    topic_domains: tuple[str, ...] = ("general",)
    confidence: float = Field(default=0.4, ge=0, le=1)
    seed: int = 0

    @field_validator("most")
    @classmethod
    def _shares_below_one(cls, most: dict[str, float]) -> dict[str, float]:
        if any(not 0 <= share < 1 for share in most.values()):
            raise ValueError("a topic's largest share must be at least 0 and below 1")
        return most

    @field_validator("languages")
    @classmethod
    def _shares_add_up_to_one_at_most(cls, languages: dict[str, float]) -> dict[str, float]:
        if any(share < 0 for share in languages.values()) or sum(languages.values()) > 1 + 1e-9:
            raise ValueError("shares must not be negative and add up to one at most")
        return languages

    @field_validator("topic_domains")
    @classmethod
    def _domains_are_known(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(domains) - set(DOMAINS)):
            raise ValueError(f"unknown domain {unknown[0]!r}; domains are {', '.join(DOMAINS)}")
        return domains


def weigh(config: WeighConfig, corpus: Path, out: Path, progress: Progress, topics: Path | None = None) -> None:
    """Writes the corpus to ``out`` with topics, fewer documents of common ones, and new weights.

    Raises:
        HerdError: ``most`` without a classifier or with a topic that it does not know; no document is left.
    """
    model = load_topics(topics) if topics is not None else None
    _check_topics(config, model, topics)
    labels = list(_classified(config, corpus, model, progress))
    kept_share, shares = _thin_out(config, corpus, labels)
    sizes, stays, seed = Counter[tuple[str, str]](), [], derive(config.seed, "mix")
    for row, (topic, _) in zip(_documents(corpus), labels, strict=True):
        stays.append(draw(row["id"], seed) < kept_share.get(topic or "", 1.0))
        if stays[-1]:
            sizes[row["domain"], row["language"] or ""] += len(row["text"])
    if not sizes:
        raise HerdError(f"{corpus}: no document is left for training after mix")
    mix, languages = plan_weights(sizes, config)
    with Rewrite(corpus, out, _FIELDS) as rewrite:
        for row, (topic, sure), stay in zip(read_documents(corpus / "documents"), labels, stays, strict=True):
            if topic is not None:
                row |= {"topic": topic, "topic_confidence": sure}
            if not stay:
                rewrite.reject(row, "mix", f"more {topic} than its share")
                continue
            rewrite.keep(row | _placed(row, config, mix, languages))
    rewrite.finish("mix", {}, {"mix": _report(config, mix, languages, sizes), "topics": shares})


def _documents(corpus: Path) -> Iterator[Row]:
    return read_documents(corpus / "documents", ["id", "domain", "language", "text"])


def _check_topics(config: WeighConfig, model: TopicModel | None, topics: Path | None) -> None:
    if config.most and model is None:
        raise HerdError("most: limits on topics need a classifier of topics; give one with --topics")
    unknown = sorted(set(config.most) - {UNSURE, *(model.names if model else ())})
    if model is not None and unknown:
        raise HerdError(f"most: {topics} knows no topic {unknown[0]!r}; it knows {', '.join(model.names)}")


def _classified(
    config: WeighConfig, corpus: Path, model: TopicModel | None, progress: Progress
) -> Iterator[tuple[str | None, float]]:
    """Topic and confidence of every training document; (None, 0) where topics are not asked for."""
    if model is None:
        yield from ((None, 0.0) for _ in read_documents(corpus / "documents", ["id"]))
        return
    asked = [row["domain"] in config.topic_domains for row in read_documents(corpus / "documents", ["domain"])]
    texts = (row["text"] for row, ask in zip(_documents(corpus), asked, strict=True) if ask)
    found = model.classify_all(iter(progress.track(texts, "mix: topics", sum(asked), "documents")))
    for ask in asked:
        topic, sure = next(found) if ask else (0, 0.0)
        name = model.names[topic] if sure >= config.confidence else UNSURE
        yield (name, sure) if ask else (None, 0.0)


def _thin_out(
    config: WeighConfig, corpus: Path, labels: list[tuple[str | None, float]]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The share of each topic's documents that stays, and each topic's share before and as planned."""
    sizes = Counter[str]()
    for row, (topic, _) in zip(_documents(corpus), labels, strict=True):
        if topic is not None:
            sizes[topic] += len(row["text"])
    total = sum(sizes.values())
    if not total:
        return {}, {}
    natural = {topic: size / total for topic, size in sizes.items()}
    caps = {topic: config.most.get(topic, 1.0) for topic in natural}
    if sum(caps.values()) < 1:
        raise HerdError(f"most: the topics may keep {sum(caps.values()):.0%} together, which leaves the rest empty")
    planned = capped(natural, caps)
    scale = max(planned[topic] / natural[topic] for topic in natural)
    kept = {topic: planned[topic] / natural[topic] / scale for topic in natural}
    shares = {
        topic: {"before": natural[topic], "planned": planned[topic], "kept": kept[topic]}
        for topic in sorted(natural, key=lambda name: -natural[name])
    }
    return kept, shares


def plan_weights(sizes: Sizes, config: WeighConfig) -> tuple[Mix, Mix | None]:
    """The mix of the domains, and that of the languages within the multilingual one, None where there is none."""
    domains, foreign = Counter[str](), Counter[str]()
    for (domain, language), size in sizes.items():
        domains[domain] += size
        if domain == FOREIGN:
            foreign[language] += size
    mix = plan_mix(domains, config.mix)
    if not foreign.total():
        return mix, None
    unnamed = foreign.total() - sum(foreign[name] for name in config.languages)
    rest = max(1 - sum(config.languages.values()), 0.0) if config.languages else 1.0
    wanted = {
        name: config.languages[name] if name in config.languages else rest * size / max(unnamed, 1)
        for name, size in foreign.items()
    }
    absent = {name: share for name, share in config.languages.items() if name not in foreign}
    # A language is repeated by its own weight and by its domain's: both together keep the limit.
    repeat = max(config.mix.maximum_repeat / max(mix.weights[FOREIGN], 1e-9), 1.0)
    return mix, plan_shares(foreign, wanted | absent, repeat)


def _placed(row: Row, config: WeighConfig, mix: Mix, languages: Mix | None) -> dict[str, Any]:
    """Weight and, where languages are domains, domain of a document."""
    weight = mix.weights[row["domain"]]
    if row["domain"] != FOREIGN or languages is None:
        return {"weight": weight}
    language = row["language"] or ""
    domain = f"{FOREIGN}-{language or 'unknown'}" if config.split_languages else FOREIGN
    return {"weight": weight * languages.weights[language], "domain": domain}


def _report(config: WeighConfig, mix: Mix, languages: Mix | None, sizes: Sizes) -> dict[str, Any]:
    domains = Counter[str]()
    for (domain, _), size in sizes.items():
        domains[domain] += size
    shares = dict(mix.shares)
    if config.split_languages and languages is not None:
        whole = shares.pop(FOREIGN)
        shares |= {f"{FOREIGN}-{name or 'unknown'}": whole * share for name, share in languages.shares.items()}
    return {
        "shares": shares,
        "weights": mix.weights,
        "natural": mix.natural,
        "notes": [*mix.notes, *(languages.notes if languages else [])],
        "characters": dict(domains),
        "languages": languages.shares if languages else {},
        "language_weights": languages.weights if languages else {},
    }
