"""Pipeline parallel training: the ranks of PP share the layers (paper, section 3.3.2).

    processes = PipelineProcesses(Mesh(MeshConfig(pp=2, stages=2), "cuda"))
    part = processes.begin(beginning, device)   # this process's layers, under the names they have in the whole network
    train(schedule, part, source, processes.next_token_loss, out, progress, processes=processes)

``order`` says what each rank does when; ``torch.distributed.pipelining`` puts sends and receives between, runs the
backward passes, and gathers and reduces the weights where they are cut over data ranks too.  The loss stays that of the
loop: on every stage but the last, it ends with what the stage hands on.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import _Action, _ComputationType, _PipelineScheduleRuntime
from torch.distributed.tensor import DTensor

from herd.model.layers import Attend
from herd.model.rotary import rotary_angles
from herd.model.transformer import Transformer
from herd.train.batch import Batch, LossParts
from herd.train.parallel.data import release_weights, shard_weights
from herd.train.parallel.mesh import Mesh
from herd.train.parallel.order import Interleaving, split_layers, work_orders
from herd.train.parallel.processes import ManyProcesses, pad_batch, placed_like, whole_tensor
from herd.train.processes import Forward


class Stage(nn.Module):
    """Consecutive layers of a network; the first stage embeds too, the last one has norm and output matrix.

    Where the two are tied, the last stage has a copy of the embedding's matrix, by the same name.
    """

    def __init__(self, model: Transformer, number: int, stages: int) -> None:
        super().__init__()
        self.config, self.number, self.is_last = model.config, number, number == stages - 1
        layers = split_layers(model.config.layers, stages)[number]
        self.embedding: nn.Module | None = model.embedding if number == 0 else None
        self.layers = nn.ModuleDict({str(index): model.layers[index] for index in layers})
        self.norm = model.norm if self.is_last else None
        self.head = model.head if self.is_last and not model.config.tied else None
        if self.is_last and model.config.tied:
            self.embedding = nn.Module()
            self.embedding.weight = nn.Parameter(model.embedding.weight.detach().clone())

    @property
    def tied_weight(self) -> nn.Parameter | None:
        """The matrix that another stage has too."""
        if self.embedding is None or not self.config.tied:
            return None
        return cast(nn.Parameter, self.embedding.weight)

    @property
    def head_weight(self) -> Tensor:
        """The output matrix (V, E) of the last stage."""
        matrix = self.tied_weight if self.head is None else self.head.weight
        assert matrix is not None, "only the last stage has an output matrix"
        return matrix

    def forward(self, x: Tensor, within: "Within") -> Tensor:
        """Calls ``within`` where the weights are at hand."""
        return within(self, x)

    def transform(self, x: Tensor, positions_N: Tensor, attend: Attend) -> Tensor:
        """Token ids (N,) or residual stream (N, E) in; residual stream or, from the last stage, hidden states out."""
        cos_NR, sin_NR = rotary_angles(self.config, positions_N)
        x_NE = self.embedding(x) if self.number == 0 and self.embedding is not None else x
        for layer in self.layers.values():
            x_NE = layer(x_NE, cos_NR, sin_NR, attend)
        return x_NE if self.norm is None else self.norm(x_NE)


Within = Callable[[Stage, Tensor], Tensor]
"""What is done with a stage and its input while its weights are at hand."""


class _Ending:
    """The last stage in the place of the whole network: its tokens are what it received."""

    def __init__(self, stage: Stage, x_NE: Tensor) -> None:
        self._stage, self._x_NE, self.head_weight = stage, x_NE, stage.head_weight

    def __call__(self, tokens_N: Tensor, positions_N: Tensor, attend: Attend) -> Tensor:
        return self._stage.transform(self._x_NE, positions_N, attend)


class Part(nn.Module):
    """The stages of one process as one module, whose parameters are named as in the whole network."""

    def __init__(self, model: Transformer, numbers: range, stages: int) -> None:
        super().__init__()
        self.config = model.config
        # A tuple, so that the stages' modules are registered once: below, by their names.
        self.stages = tuple(Stage(model, number, stages) for number in numbers)
        first, last = self.stages[0], self.stages[-1]
        self.embedding = last.embedding if first.embedding is None else first.embedding
        self.layers = nn.ModuleDict({name: layer for stage in self.stages for name, layer in stage.layers.items()})
        self.norm, self.head = last.norm, last.head


class PipelineProcesses(ManyProcesses):
    """``ManyProcesses`` where PP is more than one; every process holds some of the stages."""

    def __init__(self, mesh: Mesh) -> None:
        super().__init__(mesh)
        group = mesh.group("pp")
        assert group is not None, "a pipeline has more than one rank"
        self._group, self._place = group, mesh.index("pp")
        self._interleaving = mesh.config.interleaving
        self._present: tuple[Stage, Tensor] | None = None
        self._made: tuple[tuple[int, int], _Runtime] | None = None

    def spread(self, model: nn.Module) -> nn.Module:
        """This process's part of ``model``, which every process holds whole and alike, with values or without."""
        assert isinstance(model, Transformer), "only the transformer is cut into stages"
        self._cut_matrices(model)
        stages = self._interleaving.stages
        self._owners = {
            name: (stage % self._interleaving.ranks, parameter.shape, parameter.dtype)
            for stage in range(stages)
            for name, parameter in Stage(model, stage, stages).named_parameters()
        }
        self._part = Part(model, range(self._place, stages, self._interleaving.ranks), stages)
        for stage in self._part.stages:
            shard_weights(stage, self.mesh)
        return self._part

    def passes(self, forward: Forward, batches: Iterable[Batch]) -> Iterator[tuple[Batch, LossParts]]:
        """All micro-batches at once through the pipeline; only processes with the last stage know losses."""
        given = list(batches)
        longest = max(len(batch.tokens_N) for batch in given)
        length = longest + -longest % self.token_multiple
        padded = [pad_batch(batch, length) for batch in given]
        done: dict[int, LossParts] = {}

        def through(number: int) -> Within:
            def within(stage: Stage, x: Tensor) -> Tensor:
                self._present = (stage, x)
                parts = forward(padded[number])
                self._present = None
                if stage.is_last:
                    done[number] = LossParts(parts.total_sum.detach(), parts.weight, parts.figures)
                return parts.total_sum

            return within

        tokens = [batch.tokens_N.to(self._device) for batch in padded]
        self._runtime(len(padded), len(tokens[0])).run(tokens, [through(number) for number in range(len(padded))])
        self._sum_tied()
        for number, batch in enumerate(given):
            yield batch, done.get(number, self._nothing())

    def next_token_loss(self, model: nn.Module, batch: Batch) -> LossParts:
        """The loss where this process has the last stage.

        Inside ``passes``, other stages give what they hand on; outside, all stages run one after another, and a process
        without the last one gives a loss of zero with no targets.
        """
        if self._present is not None:
            return self._end(*self._present, batch)
        assert isinstance(model, Part)
        filled = pad_batch(batch, self.token_multiple)
        for stage in model.stages:
            parts = self._alone(stage, filled)
        return parts if model.stages[-1].is_last else self._nothing()

    def counts(self, parameter: nn.Parameter) -> bool:
        """The copy of a tied matrix is not counted again."""
        tied = self._tied()
        return tied is None or parameter is not tied[0] or self._place == 0

    def settle(self, model: nn.Module) -> None:
        """An evaluation leaves weights gathered."""
        assert isinstance(model, Part)
        for stage in model.stages:
            release_weights(stage)

    @torch.no_grad()
    def each_weight(
        self, model: nn.Module, weights: Mapping[str, Tensor] | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Whole tensors on the CPU of every process, one after another; ``weights`` has one for every parameter."""
        own = dict(model.named_parameters()) if weights is None else weights
        for name, (owner, shape, dtype) in self._owners.items():
            if owner == self._place:
                tensor = whole_tensor(own[name]).to(self._device).contiguous()
            else:
                tensor = torch.empty(shape, dtype=dtype, device=self._device)
            dist.broadcast(tensor, group=self._group, group_src=owner)
            yield name, tensor.cpu()

    def _end(self, stage: Stage, x: Tensor, batch: Batch) -> LossParts:
        """The stage's pass: to the loss, or to what the next stage goes on from."""
        if stage.is_last:
            return super().next_token_loss(_Ending(stage, x), batch)
        own, attend = self.share(batch)
        tokens_or_stream = own.tokens_N if stage.number == 0 else x
        return LossParts(stage.transform(tokens_or_stream, own.positions_N, attend), 0.0)

    def _alone(self, stage: Stage, batch: Batch) -> LossParts:
        """One stage's pass without the runtime: receive, compute, send."""
        ranks = self._interleaving.ranks
        x = self._stream(len(batch.tokens_N), self._device)
        if stage.number > 0:
            dist.recv(x, group=self._group, group_src=(stage.number - 1) % ranks)
        parts: list[LossParts] = []

        def within(stage: Stage, x: Tensor) -> Tensor:
            parts.append(self._end(stage, x, batch))
            return parts[0].total_sum

        out = stage(x, within)
        if not stage.is_last:
            dist.send(out.contiguous(), group=self._group, group_dst=(stage.number + 1) % ranks)
        return parts[0]

    def _tied(self) -> tuple[nn.Parameter, int] | None:
        """The matrix that the first and the last stage share, if this process has either, and the other's rank."""
        last = self._interleaving.ranks - 1
        end = {0: self._part.stages[0], last: self._part.stages[-1]}.get(self._place)
        weight = None if end is None else end.tied_weight
        return None if weight is None else (weight, last - self._place)

    def _sum_tied(self) -> None:
        """Adds the two gradients of a tied matrix, so that both copies go the same way, bit for bit."""
        tied = self._tied()
        if tied is None:
            return
        weight, other = tied
        assert weight.grad is not None
        weight.grad = placed_like(weight, weight.grad)
        own = weight.grad.to_local() if isinstance(weight.grad, DTensor) else weight.grad
        theirs = torch.empty_like(own)
        operations = [
            dist.P2POp(dist.isend, own, group=self._group, group_peer=other),
            dist.P2POp(dist.irecv, theirs, group=self._group, group_peer=other),
        ]
        for operation in dist.batch_isend_irecv(operations):
            operation.wait()
        own += theirs

    def _stream(self, tokens: int, device: str | torch.device) -> Tensor:
        """Room for what goes from stage to stage, of which each process has its part of the tokens."""
        config, shape = self.mesh.config, self._part.config
        own = tokens // config.cp // config.tp
        return torch.empty(own, shape.dim, dtype=next(self._part.parameters()).dtype, device=device)

    def _nothing(self) -> LossParts:
        return LossParts(torch.zeros((), device=self._device), 0.0)

    def _runtime(self, micro_batches: int, tokens: int) -> "_Runtime":
        """The runtime for so many micro-batches of such a length; a new one where either has changed."""
        if self._made is None or self._made[0] != (micro_batches, tokens):
            stages = [self._prepared(stage, tokens) for stage in self._part.stages]
            self._made = (micro_batches, tokens), _Runtime(stages, self._interleaving, micro_batches)
        return self._made[1]

    def _prepared(self, stage: Stage, tokens: int) -> PipelineStage:
        stream = self._stream(tokens, "meta").requires_grad_()
        ids = torch.empty(tokens, dtype=torch.long, device="meta")
        return PipelineStage(
            stage,
            stage.number,
            self._interleaving.stages,
            self._device,
            input_args=ids if stage.number == 0 else stream,
            output_args=stream.sum() if stage.is_last else stream,
            group=self._group,
        )


class _Runtime:
    """torch's runtime of pipelines with an order of work of our own, for steps of one shape."""

    def __init__(self, stages: list[PipelineStage], interleaving: Interleaving, micro_batches: int) -> None:
        self._stages = stages
        self._schedule = _PipelineScheduleRuntime(stages, micro_batches, _loss_itself, scale_grads=False)
        self._schedule._prepare_schedule_with_comms(
            {
                rank: [_Action(work.stage, _KINDS[work.forward], work.micro_batch) for work in order]
                for rank, order in enumerate(work_orders(interleaving, micro_batches))
            }
        )

    def run(self, tokens: list[Tensor], within: list[Within]) -> None:
        """Forward and backward pass of all micro-batches; gradients add up in the parameters."""
        for stage in self._stages:
            stage.has_backward = True
            stage.clear_runtime_states()
        self._schedule._step_microbatches(
            [(each,) for each in tokens],
            [{"within": each} for each in within],
            [None] * len(tokens),
            return_outputs=False,
        )


_KINDS = {True: _ComputationType.FORWARD, False: _ComputationType.FULL_BACKWARD}


def _loss_itself(output: Tensor, target: None) -> Tensor:
    return output


def processes_of(mesh: Mesh) -> ManyProcesses:
    """This process among those of ``mesh``, with a pipeline or without."""
    return PipelineProcesses(mesh) if mesh.config.pp > 1 else ManyProcesses(mesh)
