"""Learns a byte-level BPE vocabulary with the paper's split pattern (fact sheet section 3.4).

    tokenizer = train_bpe(texts, vocab_size=4096)             # the 256 control tokens are part of the 4,096
    train_tokenizer(TokenizerConfig(vocab_size=4096), corpus, out, Progress())      # the stage

The counting and merging are the native code of the ``tokenizers`` library, which takes texts one at a time and keeps
only the distinct pieces and their counts, so that memory grows with the vocabulary of the text and not with its
length. The result depends on the texts alone, not on threads or the process.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from pydantic import Field
from tokenizers import Regex, models, pre_tokenizers, trainers

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.files import write_json
from herd.foundation.progress import Progress
from herd.tokenizer import special
from herd.tokenizer.documents import read_documents
from herd.tokenizer.files import token_bytes
from herd.tokenizer.format_text import format_text
from herd.tokenizer.sample import characters_by, sample_texts, shares_of
from herd.tokenizer.tokenizer import Tokenizer

_SMALLEST = 256 + len(special.SPECIAL_TOKENS)


class TokenizerConfig(Config):
    """What to learn a vocabulary from, and how large it becomes."""

    vocab_size: int = Field(default=8192, ge=_SMALLEST)
    """Ids in all: 256 bytes, the merges, 256 control tokens."""
    sample_characters: int = Field(default=30_000_000, gt=0)
    """At most about this many characters of the corpus are read for learning."""
    domain_weights: dict[str, float] = Field(default_factory=dict)
    """Share of each domain in the sample; empty: as the corpus has them. Domains without a weight are left out."""
    dialogue_share: float = Field(default=0.0, ge=0, lt=1)
    """Of the text, how much is the chat format's own, so that its words become tokens in a small vocabulary too."""
    seed: int = 0
    measured_characters: int = Field(default=4_000_000, gt=0)
    """At most about this many characters of each domain and language are encoded for the figures."""


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learns ``vocab_size`` ids (bytes, merges and the 256 control tokens together) from ``texts``.

    Raises ``HerdError`` if the texts hold fewer distinct merges than that, or if ``vocab_size`` leaves none.
    """
    if vocab_size < _SMALLEST:
        raise HerdError(f"a vocabulary of {vocab_size} is too small: bytes and control tokens alone are {_SMALLEST}")
    learner = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(special.SPLIT_PATTERN), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    learner.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    wanted = vocab_size - len(special.SPECIAL_TOKENS)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=wanted, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(iter(texts), trainer=trainer)
    vocabulary = sorted(learner.get_vocab(with_added_tokens=False).items(), key=lambda item: item[1])
    ranks = {token_bytes(text): rank for text, rank in vocabulary}
    if len(ranks) < wanted:
        reached = len(ranks) + len(special.SPECIAL_TOKENS)
        raise HerdError(f"the text gives a vocabulary of {reached} at most; vocab_size {vocab_size} asks for more")
    return Tokenizer(ranks)


def train_tokenizer(config: TokenizerConfig, corpus: Path, out: Path, progress: Progress) -> None:
    """The stage: learns from ``corpus/documents``, writes the tokenizer's files and ``stats.json`` into ``out``.

    The figures (characters and bytes per token, by domain and language) are measured on ``corpus/heldout`` where
    there is one, else on the documents themselves.
    """
    shares = _sampled_shares(config, corpus / "documents")
    texts = sample_texts(corpus / "documents", "domain", shares, config.seed)
    documents = progress.track(texts, "learning a vocabulary", unit="documents")
    tokenizer = train_bpe(_with_format(documents, config.dialogue_share), config.vocab_size)
    tokenizer.save(out)
    heldout = corpus / "heldout"
    measured_on = "heldout" if any(heldout.glob("*.parquet")) else "documents"
    compression = measure_compression(tokenizer, corpus / measured_on, config.measured_characters)
    stats = {
        "vocab_size": tokenizer.vocab_size,
        "sampled_shares": shares,
        "measured_on": measured_on,
        "compression": {key: value.as_json() for key, value in sorted(compression.items())},
    }
    write_json(out / "stats.json", stats)


def _with_format(texts: Iterable[str], share: float) -> Iterator[str]:
    """The texts, then the chat format's own text until it is ``share`` of all characters."""
    characters = 0
    for text in texts:
        characters += len(text)
        yield text
    yield from format_text(round(characters * share / (1 - share)))


def _sampled_shares(config: TokenizerConfig, documents: Path) -> dict[str, float]:
    """For each domain the share of its documents that are read; without weights every domain as the corpus has it."""
    characters = characters_by(documents, "domain")
    weights = config.domain_weights or {domain: float(count) for domain, count in characters.items()}
    present = {domain: weight for domain, weight in weights.items() if characters.get(domain) and weight > 0}
    if not present:
        raise HerdError(f"{documents}: none of the domains with a weight ({', '.join(sorted(weights))}) has documents")
    return shares_of(characters, present, config.sample_characters)


@dataclass
class Compression:
    """Sizes of the same text in documents, characters, UTF-8 bytes and tokens."""

    documents: int = 0
    characters: int = 0
    bytes: int = 0
    tokens: int = 0

    def as_json(self) -> dict[str, float]:
        """The sizes with characters and bytes per token."""
        tokens = max(self.tokens, 1)
        return {
            **vars(self),
            "characters_per_token": self.characters / tokens,
            "bytes_per_token": self.bytes / tokens,
        }


def measure_compression(tokenizer: Tokenizer, documents: Path, limit: int) -> dict[str, Compression]:
    """Sizes by ``"domain/language"`` over at most about ``limit`` characters of each."""
    found: dict[str, Compression] = defaultdict(Compression)
    for document in read_documents(documents, ("text", "domain", "language")):
        entry = found[f"{document['domain']}/{document['language']}"]
        if entry.characters >= limit:
            continue
        text = document["text"]
        entry.documents += 1
        entry.characters += len(text)
        entry.bytes += len(text.encode())
        entry.tokens += len(tokenizer.encode_array(text))
    return dict(found)
