"""The one engine: batched, cached, seeded generation and scoring with a ``Transformer``.

    engine = Engine.load(Path("runs/pocket/chat-3m"))
    prompt = engine.chat.encode([{"role": "user", "content": "Hello"}], open_assistant=True).ids
    [[completion]] = engine.generate([prompt], Sampling(temperature=0))
    [logprobs] = engine.score([prompt], [engine.tokenizer.encode("Hi.")])

Requests of any lengths run together: every step gives one token to each running output and moves waiting prompts
forward by a bounded number of tokens.  An answer depends on its prompt, its seed and the weights alone, not on what
runs beside it (up to the last bits of floating point, which may decide between tokens of equal probability).
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from herd.formats.huggingface import load_model
from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.foundation.seeds import derive
from herd.infer.cache import Chunk, PagedCache, StepAttention, StepPlan
from herd.infer.fused import fuse
from herd.infer.grammar import GrammarCompiler, Matcher
from herd.infer.pages import PagePool, page_keys
from herd.infer.request import Completion, Event, FinishReason, Request, TokenLogProb
from herd.infer.sampling import Sampling, choose, uniform
from herd.infer.scheduler import Group, Scheduler
from herd.infer.slots import Output, Slots
from herd.infer.text import TextStream
from herd.infer.window import Window
from herd.model.loss import token_log_probs
from herd.model.transformer import Transformer
from herd.tokenizer.chat import ChatFormat
from herd.tokenizer.special import END_OF_MESSAGE
from herd.tokenizer.tokenizer import Tokenizer


class EngineConfig(Config):
    """How much runs at once.

    ``cache_bytes`` bounds the key-value cache, ``window_bytes`` the contiguous copy of what decodes (0: none),
    ``batch`` the outputs that decode together, ``prefill_tokens`` the prompt tokens of one step, that is how long
    running answers may have to wait for new prompts.  Models of at most ``fuse_bytes`` run with fused layers.
    """

    batch: int = Field(default=128, gt=0)
    page_size: int = Field(default=16, gt=0)
    cache_bytes: int = Field(default=1 << 28, gt=0)
    window_bytes: int = Field(default=1 << 28, ge=0)
    fuse_bytes: int = Field(default=1 << 28, ge=0)
    prefill_tokens: int = Field(default=2048, gt=0)
    seed: int = 0


class Engine:
    """A model, its tokenizer and its cache; for one thread at a time (``herd.infer.service`` owns one for a server)."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, config: EngineConfig | None = None) -> None:
        self.model, self.tokenizer, self.config = model.eval(), tokenizer, config or EngineConfig()
        self.device, dtype = model.head_weight.device, model.head_weight.dtype
        shape = model.config
        if shape.vocab_size < tokenizer.vocab_size:
            raise HerdError(f"the model knows {shape.vocab_size} ids, but its tokenizer has {tokenizer.vocab_size}")
        size = self.config.page_size
        largest = self.config.batch * -(-shape.max_positions // size)
        pages = min(largest, self.config.cache_bytes // PagedCache.page_bytes(shape, size, dtype))
        self._cache = PagedCache(shape, pages, size, dtype, self.device)
        self._window = Window(self._cache, self.config.batch, self.config.window_bytes)
        self._slots = Slots(self.config.batch, shape.max_positions, size)
        self._scheduler = Scheduler(PagePool(pages), self._slots, size, self._make_output)
        self._grammars: GrammarCompiler | None = None
        self._weights: list[tuple[int, int]] = []
        self._running_model = model
        self._next_id = 0
        self.flops = 0.0
        """What the networks' passes have taken so far, prompts and answers; shared beginnings count once."""

    @cached_property
    def chat(self) -> ChatFormat:
        """The chat format of the tokenizer; ``HerdError`` where it has none, as Llama 2's (text is continued)."""
        return ChatFormat(self.tokenizer)

    @classmethod
    def load(cls, path: Path | str, config: EngineConfig | None = None, device: str = "cpu") -> "Engine":
        """Reads a Hugging Face directory with its tokenizer; ``HerdError`` names what is missing or no decoder."""
        path = Path(path)
        model = load_model(path)
        if not isinstance(model, Transformer):
            raise HerdError(f"{path}: a reward model gives scores, not text, and cannot be generated from")
        return cls(model.to(device), Tokenizer.load(path), config)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling] | None = None,
        n: int = 1,
        progress: Progress | None = None,
    ) -> list[list[Completion]]:
        """``n`` completions for every prompt, in the prompts' order; ``sampling`` may differ from prompt to prompt.

        Equal prompts with equal seeds give equal answers; the ``n`` outputs of one prompt differ.
        """
        each = [sampling or Sampling()] * len(prompts) if not isinstance(sampling, Sequence) else list(sampling)
        if len(each) != len(prompts):
            raise HerdError(f"{len(prompts)} prompts came with {len(each)} samplings")
        requests = [Request(prompt, one, n) for prompt, one in zip(prompts, each, strict=True)]
        return self._run(requests, progress, "generating")

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[int]],
        progress: Progress | None = None,
    ) -> list[list[float]]:
        """Natural log-probabilities of each continuation's tokens behind its prompt; common beginnings are shared."""
        if len(prompts) != len(continuations):
            raise HerdError(f"{len(prompts)} prompts came with {len(continuations)} continuations")
        pairs = zip(prompts, continuations, strict=True)
        requests = [Request(prompt, continuation=continuation) for prompt, continuation in pairs]
        results = self._run(requests, progress, "scoring")
        return [[token.value for token in completion.logprobs or []] for [completion] in results]

    def _run(self, requests: list[Request], progress: Progress | None, what: str) -> list[list[Completion]]:
        if self._scheduler.busy:
            raise HerdError("the engine is busy with submitted requests; generate and score need it alone")
        results: list[list[Completion | None]] = [[None] * request.n for request in requests]
        try:
            place = {self.submit(request): index for index, request in enumerate(requests)}
            total = sum(request.n for request in requests)
            with (progress or Progress.silent()).task(what, total, "outputs") as task:
                while self._scheduler.busy:
                    for event in self.step():
                        if event.error is not None:
                            raise event.error
                        results[place[event.request]][event.output] = event.completion
                        task.advance()
        except BaseException:
            for group in list(self._scheduler.groups.values()):
                self._scheduler.cancel(group)
            raise
        return [[completion for completion in row if completion is not None] for row in results]

    def submit(self, request: Request) -> int:
        """Puts a request in line and returns its id; ``HerdError`` if it can never run."""
        if not self._scheduler.busy:
            self._follow_weights()
        prompt, limit = np.asarray(request.prompt, dtype=np.int64), 0
        longest = self.model.config.max_positions
        room = longest - len(prompt)
        self._check_ids(prompt, "prompt")
        if not len(prompt):
            raise HerdError("a prompt must hold at least one token, for example the begin token")
        if request.continuation is not None:
            continuation = np.asarray(request.continuation, dtype=np.int64)
            self._check_ids(continuation, "continuation")
            if not len(continuation):
                raise HerdError("a continuation must hold at least one token")
            tokens, wanted = np.concatenate([prompt, continuation[:-1]]), len(continuation)
        else:
            if request.n < 1:
                raise HerdError(f"n must be at least 1, got {request.n}")
            tokens, wanted = prompt, 1
            limit = min(request.sampling.max_tokens, room)
            if request.sampling.grammar is not None:
                self._matcher(request.sampling)
        if wanted > room + (request.continuation is not None):
            raise HerdError(f"{len(prompt)} tokens of prompt leave no room for {wanted} more in the model's {longest}")
        needed = self._scheduler.pages_needed(len(tokens), limit)
        if needed > self._scheduler.pool.pages:
            raise HerdError(
                f"a request of up to {len(tokens) + limit} tokens needs {needed} cache pages,"
                f" but cache_bytes allows {self._scheduler.pool.pages}"
            )
        self._next_id += 1
        keys = page_keys(tokens, self.config.page_size)
        self._scheduler.add(Group(self._next_id, request, tokens, keys, limit))
        return self._next_id

    def _follow_weights(self) -> None:
        """Drops what was made with older weights, should the model have been trained since."""
        parameters = list(self.model.parameters())
        weights = [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in parameters]
        if weights == self._weights:
            return
        self._weights = weights
        self._scheduler.pool.forget()
        small = sum(p.nbytes for p in parameters) <= self.config.fuse_bytes
        plain = self.device.type != "cpu" or self.model.head_weight.dtype != torch.float32
        self._running_model = fuse(self.model) if small and not plain else self.model

    def _check_ids(self, ids: np.ndarray, what: str) -> None:
        if len(ids) and (ids.min() < 0 or ids.max() >= self.model.config.vocab_size):
            raise HerdError(f"the {what} holds an id outside the vocabulary of {self.model.config.vocab_size}")

    def cancel(self, request: int) -> None:
        """Ends a request without further events and frees its memory; an id that has ended is ignored."""
        group = self._scheduler.groups.get(request)
        if group is not None:
            self._scheduler.cancel(group)

    def forget(self) -> None:
        """Drops what earlier requests left in the cache: the next ones cost what they would cost a new engine."""
        if self.busy:
            raise HerdError("the engine is busy with submitted requests; what they share cannot be forgotten")
        self._scheduler.pool.forget()

    @property
    def busy(self) -> bool:
        """Whether a submitted request waits or runs."""
        return self._scheduler.busy

    @property
    def free_pages(self) -> int:
        """Cache pages that nobody holds."""
        return self._scheduler.pool.free

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """One forward pass over all that runs; returns the news."""
        self._scheduler.admit()
        decoding = self._slots.decoding()
        sources, targets = self._scheduler.to_copy(decoding)
        if sources:
            self._cache.copy(sources, targets)
        work = list(self._scheduler.chunks(self.config.prefill_tokens))
        work.sort(key=lambda item: item[1].start > 0)
        arranged = self._arrange(decoding)
        decoding = decoding if arranged is None else arranged
        events: list[Event] = []
        logits: list[Tensor] = []
        if len(decoding) or work:
            hidden_NE = self._forward(decoding, work, self._window if arranged is not None else None)
            if len(decoding):
                logits.append(self.model.logits(hidden_NE[: len(decoding)]))
            events += self._after_prefill(work, hidden_NE[len(decoding) :])
        starting, self._scheduler.starting = self._scheduler.starting, []
        for slot in starting:
            group = self._slots.output(slot).group
            assert group.logits is not None
            logits.append(group.logits)
        if logits:
            events += self._after_logits(decoding, np.array(starting, dtype=np.int64), torch.cat(logits))
        return events

    def _arrange(self, decoding: np.ndarray) -> np.ndarray | None:
        slots = self._slots
        return self._window.arrange(decoding, slots.serial[decoding], slots.length[decoding], slots.table[decoding])

    def _forward(self, decoding: np.ndarray, work: list[tuple[Group, Chunk]], window: Window | None) -> Tensor:
        """Hidden states of the step's tokens: the decoding slots', then the chunks'."""
        slots, chunks = self._slots, [chunk for _, chunk in work]
        tokens, positions = [slots.last[decoding]], [slots.length[decoding]]
        for group, chunk in work:
            tokens.append(group.tokens[chunk.start : chunk.start + chunk.length])
            positions.append(np.arange(chunk.start, chunk.start + chunk.length))
        lengths = slots.length[decoding] + 1
        blocks = -(-int(lengths.max(initial=0)) // self.config.page_size)
        plan = StepPlan(
            torch.from_numpy(slots.table[decoding, :blocks]).to(self.device),
            torch.from_numpy(lengths).to(self.device),
            window,
            [chunk for chunk in chunks if chunk.start == 0],
            [chunk for chunk in chunks if chunk.start > 0],
        )
        place_N = np.concatenate(positions)
        self.flops += self.model.config.forward_flops(len(place_N), float(place_N.sum() + len(place_N)))
        positions_N = torch.from_numpy(place_N).to(self.device)
        tokens_N = torch.from_numpy(np.concatenate(tokens)).to(self.device)
        return self._running_model(tokens_N, positions_N, StepAttention(self._cache, plan, positions_N))

    def _after_prefill(self, work: list[tuple[Group, Chunk]], hidden_NE: Tensor) -> list[Event]:
        """Takes logits or scores of the chunks, and ends what was only scored."""
        events, offset, last, ready = [], 0, [], []
        for group, chunk in work:
            if not group.limit:
                self._collect_scores(group, chunk, hidden_NE[offset : offset + chunk.length])
            offset += chunk.length
            if not self._scheduler.computed(group, chunk.length):
                continue
            if group.limit:
                last.append(offset - 1)
                ready.append(group)
            else:
                self._scheduler.finish_scoring(group)
                ids = list(group.request.continuation or ())
                done = Completion(ids, "", "stop", group.scores, len(group.request.prompt))
                events.append(Event(group.id, 0, completion=done))
        if ready:
            for group, logits_V in zip(ready, self.model.logits(hidden_NE[last]), strict=True):
                group.logits = logits_V[None]
        return events

    def _collect_scores(self, group: Group, chunk: Chunk, hidden_NE: Tensor) -> None:
        before = len(group.request.prompt) - 1  # the first place whose next token is part of the continuation
        first = max(before - chunk.start, 0)
        if first >= chunk.length:
            return
        wanted = list(group.request.continuation or ())[chunk.start + first - before :][: chunk.length - first]
        targets = torch.tensor(wanted, device=self.device)
        values = token_log_probs(hidden_NE[first:], self.model.head_weight, targets).tolist()
        group.scores += [TokenLogProb(token, value) for token, value in zip(wanted, values, strict=True)]

    def _make_output(self, group: Group, own: int) -> tuple[Output, int]:
        sampling, index = group.request.sampling, group.next_output
        pages, spare = self._scheduler.take_pages(group, own)
        output = Output(group, index, pages, spare)
        if group.request.stream or sampling.stop:
            output.text = TextStream(self.tokenizer, sampling.stop)
        if sampling.grammar is not None:
            output.matcher = self._matcher(sampling)
        if sampling.logprobs is not None:
            output.logprobs = []
        seed = self.config.seed if sampling.seed is None else sampling.seed
        digest = hashlib.blake2b(group.tokens.tobytes(), digest_size=16).hexdigest()
        stop_ids = self.tokenizer.stop_ids if sampling.stop_ids is None else sampling.stop_ids
        seed = derive(seed, "sampling", digest, index)
        return output, self._slots.take(output, sampling, group.limit, seed, stop_ids)

    def _matcher(self, sampling: Sampling) -> Matcher:
        assert sampling.grammar is not None
        if self._grammars is None:
            self._grammars = GrammarCompiler(self.tokenizer, self.model.config.vocab_size)
        return self._grammars.matcher(sampling.grammar)

    def _after_logits(self, decoding: np.ndarray, starting: np.ndarray, logits_BV: Tensor) -> list[Event]:
        """Chooses the next token of every row and notes what follows from it."""
        slots, rows = self._slots, np.concatenate([decoding, starting])
        slots.length[decoding] += 1
        for slot in starting.tolist():
            output = slots.output(slot)
            slots.length[slot], slots.active[slot], output.started = len(output.group.tokens), True, True
            if not output.group.waiting:
                output.group.logits = None
        watched = np.flatnonzero(slots.watched[rows])
        wanted = [row for row in watched.tolist() if slots.output(rows[row]).logprobs is not None]
        raw_BV = logits_BV[wanted].log_softmax(-1) if wanted else None
        chosen = self._choose(rows, watched, logits_BV)
        if raw_BV is not None:
            self._note_logprobs(rows[wanted], chosen[wanted], raw_BV)
        slots.ids[rows, slots.count[rows]] = chosen
        slots.count[rows] += 1
        slots.last[rows] = chosen
        stopped = (slots.stop[rows] == chosen[:, None]).any(1)
        ended = stopped | (slots.count[rows] >= slots.limit[rows])
        return self._news(rows, chosen, stopped, ended, watched)

    def _choose(self, rows: np.ndarray, watched: np.ndarray, logits_BV: Tensor) -> np.ndarray:
        slots = self._slots
        known = self.tokenizer.vocab_size
        if known < logits_BV.shape[1]:
            logits_BV[:, known:] = -torch.inf
        bound = [row for row in watched.tolist() if slots.output(rows[row]).matcher is not None]
        if bound:
            assert self._grammars is not None
            matchers = [matcher for row in bound if (matcher := slots.output(rows[row]).matcher) is not None]
            allowed_BV = self._grammars.mask(matchers).to(self.device)
            logits_BV[bound] = logits_BV[bound].masked_fill(~allowed_BV, -torch.inf)
        parts = (
            slots.temperature[rows],
            slots.top_p[rows],
            slots.top_k[rows],
            uniform(slots.seed[rows], slots.count[rows]),
        )
        return choose(logits_BV, *(torch.from_numpy(part).to(self.device) for part in parts)).cpu().numpy()

    def _note_logprobs(self, slots: np.ndarray, chosen: np.ndarray, logprobs_BV: Tensor) -> None:
        outputs = [self._slots.output(slot) for slot in slots]
        widths = [output.group.request.sampling.logprobs or 0 for output in outputs]
        values = logprobs_BV.gather(1, torch.from_numpy(chosen)[:, None].to(self.device)).squeeze(1).tolist()
        top = logprobs_BV.topk(min(max(widths), logprobs_BV.shape[1]), dim=-1)
        likeliest = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        for output, width, token, value, (ids, best) in zip(
            outputs, widths, chosen.tolist(), values, likeliest, strict=True
        ):
            assert output.logprobs is not None
            output.logprobs.append(TokenLogProb(token, value, tuple(zip(ids[:width], best[:width], strict=True))))

    def _news(
        self, rows: np.ndarray, chosen: np.ndarray, stopped: np.ndarray, ended: np.ndarray, watched: np.ndarray
    ) -> list[Event]:
        """Events of the rows that ended or that somebody watches; only these cost Python."""
        events = []
        for row in np.union1d(np.flatnonzero(ended), watched).tolist():
            slot, token, by_id = int(rows[row]), int(chosen[row]), bool(stopped[row])
            if self._slots.outputs[slot] is None:
                continue  # its request was taken out just now, for an error in another of its outputs
            output = self._slots.output(slot)
            try:
                text, by_rule = ("", False) if by_id else output.take(token)
            except HerdError as error:
                self._scheduler.cancel(output.group)
                events.append(Event(output.group.id, output.index, error=error))
                continue
            completion = None
            if ended[row] or by_rule:
                text += output.text.finish() if output.text is not None else ""
                completion = self._complete(slot, output, by_id, by_rule)
                self._scheduler.finish(slot)
            if completion is not None or output.group.request.stream:
                logprobs = tuple(output.logprobs[-1:]) if output.logprobs else ()
                events.append(Event(output.group.id, output.index, (token,), text, logprobs, completion))
        return events

    def _complete(self, slot: int, output: Output, by_id: bool, by_rule: bool) -> Completion:
        ids = self._slots.ids[slot, : int(self._slots.count[slot])].tolist()
        reason: FinishReason = "stop" if by_id or by_rule else "length"
        if by_id and ids[-1] == self.tokenizer.special.get(END_OF_MESSAGE):
            reason = "eom"
        said = self.tokenizer.decode_bytes(ids[:-1] if by_id else ids)
        text = output.text.text if output.text is not None else said.decode(errors="replace")
        return Completion(ids, text, reason, output.logprobs, len(output.group.tokens), terminated=by_id)
