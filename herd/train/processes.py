"""What the loop asks of the processes that train together; here the answers of a process that trains alone.

``herd.train.parallel`` answers for many.  The loop holds no branch for either: it slices no batch, sums nothing over
ranks and knows no shard.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from herd.train.batch import Batch, LossFunction, LossParts, next_token_loss
from herd.train.beginning import Beginning

Forward = Callable[[Batch], LossParts]


class OneProcess:
    """One process has all weights and sees all rows of a step."""

    next_token_loss: LossFunction = staticmethod(next_token_loss)
    """The loss of training on documents, for a model that ``spread`` has spread."""
    data_index: int = 0
    """Which of the ``data_parts`` of a step's rows this process trains on."""
    data_parts: int = 1
    rank: int = 0
    """The process of rank 0 writes what is written once."""
    eager_because: str | None = None
    """Why layers are not compiled, whatever the configuration says; None where they may be."""

    def begin(self, beginning: Beginning, device: torch.device) -> nn.Module:
        """The network with its first weights, as this process holds it."""
        return beginning.whole().to(device)

    def spread(self, model: nn.Module) -> nn.Module:
        """The model as this process holds it; called before an optimiser sees the weights."""
        return model

    def passes(self, forward: Forward, batches: Iterable[Batch]) -> Iterator[tuple[Batch, LossParts]]:
        """Forward and backward pass of every micro-batch; gradients add up in the parameters."""
        for batch in batches:
            parts = forward(batch)
            parts.total_sum.backward()
            yield batch, parts

    def sum_losses(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over all processes of what each has from its own tokens: loss, targets, a loss's figures."""
        return dict(values)

    def sum_counts(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over the parts of a step's rows of what every process of a part counts alike: tokens, FLOPs."""
        return dict(values)

    def clip(self, model: nn.Module, limit: float) -> float:
        """Scales all gradients to a norm of ``limit`` at most, and returns the norm that they had."""
        return float(nn.utils.clip_grad_norm_(model.parameters(), limit))

    def settle(self, model: nn.Module) -> None:
        """Called after an evaluation: weights gathered for it are given back."""

    @torch.no_grad()
    def each_weight(
        self, model: nn.Module, weights: Mapping[str, Tensor] | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Whole tensors, one after another, of the model or of ``weights`` that are spread like it; all must ask."""
        for name, tensor in (dict(model.named_parameters()) if weights is None else weights).items():
            yield name, tensor.detach()

    def whole_weights(self, model: nn.Module, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """All of ``each_weight`` by name, on every process."""
        return dict(self.each_weight(model, weights))


@torch.no_grad()
def put_weights(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    """Copies tensors by name into the parameters of ``model``, which are whole or spread as they are."""
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])
