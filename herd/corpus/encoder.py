"""A small transformer that tells good documents from poor ones by how they begin (paper, section 3.1.1).

    encoder = fit_encoder([("a text", True), ("another", False)], EncoderConfig())
    encoder.score(["a third"])

It begins from nothing, with a tokenizer learnt from the same texts, or from a directory with the weights of an encoder
(``config.json``, ``*.safetensors``, ``tokenizer.json``), of which DistilRoBERTa is what the paper took.  Needs the
extra ``transformers``; nothing is downloaded and nothing unpickled.  Libraries are imported where they are used, since
curation reads this module's settings and needs no torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.foundation.seeds import derive, random_from

if TYPE_CHECKING:
    from torch import Tensor

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_CHARACTERS_A_TOKEN = 6


class EncoderConfig(Config):
    """``weights`` names a directory to begin from; without one, the shape is ``layers`` x ``dimension``."""

    weights: Path | None = Field(default=None, description="an encoder's directory; none begins from nothing")
    layers: int = Field(default=2, ge=1)
    dimension: int = Field(default=128, ge=8)
    heads: int = Field(default=4, ge=1)
    vocabulary: int = Field(default=8000, ge=300)
    tokens: int = Field(default=256, ge=8, description="of a document that are read, from its beginning")
    epochs: int = Field(default=6, ge=1)
    batch: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0, description="falls to zero; 2e-5 to 5e-5 suit given weights")
    weight_decay: float = Field(default=0.01, ge=0)
    seed: int = 0

    def opening(self, text: str) -> str:
        """As much of a text as its tokens can come from."""
        return text[: self.tokens * _CHARACTERS_A_TOKEN]


@dataclass
class Encoder:
    """A trained classifier: transformers' network and tokenizer."""

    network: Any
    tokenizer: Any
    config: EncoderConfig

    def score(self, texts: Sequence[str]) -> list[float]:
        """The probability of being good, one for each text."""
        import torch

        scores: list[float] = []
        self.network.eval()
        with torch.inference_mode():
            for start in range(0, len(texts), self.config.batch):
                logits = self.network(**self.encode(texts[start : start + self.config.batch])).logits
                scores += logits.float().softmax(dim=-1)[:, 1].tolist()
        return scores

    def encode(self, texts: Sequence[str]) -> "dict[str, Tensor]":
        """``input_ids`` and ``attention_mask``, shape (texts, longest)."""
        found = self.tokenizer(
            list(texts), truncation=True, max_length=self.config.tokens, padding=True, return_tensors="pt"
        )
        return {name: found[name] for name in ("input_ids", "attention_mask")}

    def save(self, directory: Path) -> None:
        """Writes a directory that ``transformers`` and ``weights`` read."""
        self.network.save_pretrained(directory, safe_serialization=True)
        self.tokenizer.save_pretrained(directory)


def fit_encoder(rows: Sequence[tuple[str, bool]], config: EncoderConfig, progress: Progress) -> Encoder:
    """The encoder that tells good texts from poor ones; cross-entropy, AdamW, a rate that falls linearly.

    Raises:
        HerdError: the extra is missing, or ``weights`` holds no encoder.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(config.seed, "encoder"))
        encoder = _load(config.weights, config) if config.weights else _begin([text for text, _ in rows], config)
        total = config.epochs * -(-len(rows) // config.batch)
        optimiser = torch.optim.AdamW(
            encoder.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        falling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total)
        encoder.network.train()
        for batch in progress.track(_batches(rows, config), "encoder", total, "steps"):
            logits = encoder.network(**encoder.encode([text for text, _ in batch])).logits
            loss = torch.nn.functional.cross_entropy(logits.float(), torch.tensor([int(good) for _, good in batch]))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(encoder.network.parameters(), 1.0)
            optimiser.step()
            falling.step()
    return encoder


def _batches(rows: Sequence[tuple[str, bool]], config: EncoderConfig) -> Iterator[list[tuple[str, bool]]]:
    for epoch in range(config.epochs):
        order = list(rows)
        random_from(config.seed, "encoder", epoch).shuffle(order)
        for start in range(0, len(order), config.batch):
            yield order[start : start + config.batch]


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise HerdError(f"encoder: {error}; the extra transformers brings it") from None
    return transformers


def _begin(texts: Sequence[str], config: EncoderConfig) -> Encoder:
    """A network of RoBERTa's kind with random weights, and a tokenizer learnt from the texts."""
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing

    library = _library()
    if config.dimension % config.heads:
        raise HerdError(f"encoder: {config.heads} heads do not divide {config.dimension} dimensions")
    pairs = ByteLevelBPETokenizer()
    pairs.train_from_iterator(texts, vocab_size=config.vocabulary, special_tokens=list(_SPECIAL), show_progress=False)
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), _SPECIAL, strict=True))
    pairs.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer = library.PreTrainedTokenizerFast(tokenizer_object=pairs._tokenizer, **names)
    shape = library.RobertaConfig(
        vocab_size=pairs.get_vocab_size(), hidden_size=config.dimension, num_hidden_layers=config.layers,
        num_attention_heads=config.heads, intermediate_size=4 * config.dimension,
        max_position_embeddings=config.tokens + 2, type_vocab_size=1, num_labels=2,
        bos_token_id=0, pad_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return Encoder(library.RobertaForSequenceClassification(shape), tokenizer, config)


def _load(weights: Path, config: EncoderConfig) -> Encoder:
    """The encoder of a directory, with a new head unless it has one of two labels."""
    library = _library()
    try:
        tokenizer = library.AutoTokenizer.from_pretrained(weights, local_files_only=True)
        network = library.AutoModelForSequenceClassification.from_pretrained(
            weights, num_labels=2, local_files_only=True, use_safetensors=True, ignore_mismatched_sizes=True
        )
    except (OSError, ValueError, KeyError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise HerdError(f"{weights}: holds no encoder for transformers ({said[0]})") from None
    return Encoder(network, tokenizer, config)
