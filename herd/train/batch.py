"""What goes into a step and what comes out of a loss: the seam between the one loop and everything trained with it.

Pre-training, fine-tuning, reward modelling and preference optimisation are a ``BatchSource`` and a ``LossFunction``
each; none of them has a loop of its own.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from herd.model.attention import document_positions
from herd.model.layers import Attend
from herd.model.loss import IGNORE, chunked_cross_entropy
from herd.model.transfer import send
from herd.model.transformer import Transformer
from herd.train.flex import document_attention

CrossEntropy = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, int]]
"""From hidden states (N, E), output matrix (V, E) and targets (N,): summed nats, and the number of targets."""


@dataclass
class Batch:
    """One micro-batch: documents one after another on the flat axis N.

    ``targets_N`` holds the next token of every token, or -100 where nothing is to be learnt; ``extra`` whatever a
    particular loss needs besides (tensors move to the model's device with the batch).
    """

    tokens_N: Tensor
    positions_N: Tensor
    targets_N: Tensor
    lengths: list[int]
    extra: dict[str, Tensor] = field(default_factory=dict)
    idle: bool = False
    """Goes through the network for the sake of the processes that wait for this one; counts and teaches nothing."""

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device, copied without waiting.

        Targets stay where they are: losses first ask which tokens have one, and on the host that is known at once.
        """
        if self.tokens_N.device == device:
            return self
        return Batch(
            send(self.tokens_N, device),
            send(self.positions_N, device),
            self.targets_N,
            self.lengths,
            {name: send(tensor, device) for name, tensor in self.extra.items()},
            self.idle,
        )


class BatchSource(Protocol):
    """Gives the micro-batches of a step; a pure function of the step, so that resuming needs no state of it."""

    def batches(self, step: int) -> list[Batch]:
        """The micro-batches of ``step``, at least one."""


@dataclass
class LossParts:
    """A summed loss, the weight it is to be divided by, and figures that are sums of the same kind.

    The loop divides by the weight of all micro-batches of the step together.  A mean taken inside a micro-batch would
    weigh its tokens by the company they came in.
    """

    total_sum: Tensor
    weight: float
    figures: dict[str, float] = field(default_factory=dict)

    def without_weight(self) -> "LossParts":
        """The same with its gradient graph, adding nothing to any sum."""
        return LossParts(self.total_sum * 0.0, 0.0, dict.fromkeys(self.figures, 0.0))


class LossFunction(Protocol):
    """A loss on one micro-batch."""

    def __call__(self, model: Any, batch: Batch) -> LossParts:
        """The summed loss with its gradient graph, also where the batch has no target."""


def next_token_loss(
    model: Transformer,
    batch: Batch,
    cross_entropy: CrossEntropy = chunked_cross_entropy,
    attend: Attend | None = None,
) -> LossParts:
    """Cross-entropy of the next token in nats: the loss of pre-training and of fine-tuning.

    Tokens see their own document unless ``attend`` says what they see.
    """
    attend = attend or document_attention(batch.lengths, batch.tokens_N.device)
    hidden_NE = model(batch.tokens_N, batch.positions_N, attend)
    total, targets = cross_entropy(hidden_NE, model.head_weight, batch.targets_N)
    return LossParts(total, float(targets))


def document_batch(documents: Iterable[Sequence[int]], masks: Iterable[Sequence[bool]] | None = None) -> Batch:
    """A micro-batch of whole documents, each trained to give its own next token.

    ``masks`` marks the tokens that the model is to learn to emit (all of them without it); a document's first token
    is emitted by nothing.  Documents of fewer than two tokens teach nothing and are left out.
    """
    kept = [list(document) for document in documents]
    learnt = [[True] * len(document) for document in kept] if masks is None else [list(mask) for mask in masks]
    pairs = [pair for pair in zip(kept, learnt, strict=True) if len(pair[0]) > 1]
    assert pairs, "a batch needs at least one document of two tokens"
    lengths = [len(document) - 1 for document, _ in pairs]
    tokens = [token for document, _ in pairs for token in document[:-1]]
    targets = [
        token if wanted else IGNORE
        for document, mask in pairs
        for token, wanted in zip(document[1:], mask[1:], strict=True)
    ]
    return Batch(torch.tensor(tokens), document_positions(lengths), torch.tensor(targets), lengths)
