"""The engine against the plain model: same tokens, same log-probabilities, whatever runs beside it."""

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from herd.formats.huggingface import save_model
from herd.foundation.errors import HerdError
from herd.infer.engine import Engine, EngineConfig
from herd.infer.grammar import Grammar
from herd.infer.request import Completion, Request
from herd.infer.sampling import Sampling
from herd.model.attention import DocumentAttention
from herd.model.transformer import RewardModel, Transformer
from herd.tokenizer.tokenizer import Tokenizer

MakeEngine = Callable[..., Engine]

GREEDY = Sampling(max_tokens=12, temperature=0, stop_ids=())
WARM = Sampling(max_tokens=12, temperature=1.0, top_p=0.95, seed=3)


def prompts_of(count: int, seed: int = 1, longest: int = 40) -> list[list[int]]:
    chance = random.Random(seed)
    return [[chance.randrange(256) for _ in range(chance.randint(1, longest))] for _ in range(count)]


def full_logprobs(model: Transformer, ids: list[int]) -> torch.Tensor:
    """The trainer's forward pass over a whole document: log-probabilities (L, V)."""
    with torch.inference_mode():
        hidden = model(torch.tensor(ids), torch.arange(len(ids)), DocumentAttention([len(ids)]))
        return model.logits(hidden).log_softmax(-1)


def ids_of(results: list[list[Completion]]) -> list[list[list[int]]]:
    return [[completion.ids for completion in row] for row in results]


def test_greedy_answers_are_those_of_the_plain_model(model: Transformer, make_engine: MakeEngine) -> None:
    prompts = prompts_of(5)
    for prompt, [completion] in zip(prompts, make_engine().generate(prompts, GREEDY), strict=True):
        ids = list(prompt)
        for _ in range(GREEDY.max_tokens):
            ids.append(int(full_logprobs(model, ids)[-1].argmax()))
        assert completion.ids == ids[len(prompt) :]
        assert (completion.finish_reason, completion.terminated) == ("length", False)


def test_flops_are_those_of_every_token_that_was_read_once(model: Transformer, make_engine: MakeEngine) -> None:
    engine, shape = make_engine(), model.config
    prompt, count = prompts_of(1, longest=40)[0], GREEDY.max_tokens
    engine.generate([prompt], GREEDY, n=3)
    read = len(prompt)
    expected = shape.flops_per_token(read + 1) * read / 3  # n tokens of a document attend to n + 1 on average, halved
    for place in range(read, read + count - 1):  # the last token of an answer is written, and never read
        expected += 3 * (2 * shape.matmul_parameters() + 4 * shape.layers * shape.dim * (place + 1))
    assert engine.flops == pytest.approx(expected)
    engine.score([prompt], [[1]])
    assert engine.flops < expected + shape.flops_per_token(read) * 4  # the prompt's full pages are shared


def test_what_is_forgotten_costs_as_much_again(make_engine: MakeEngine) -> None:
    engine, [prompt] = make_engine(), prompts_of(1)
    engine.score([prompt], [[1]])
    once = engine.flops
    engine.forget()
    engine.score([prompt], [[1]])
    assert engine.flops == 2 * once
    engine.submit(Request(prompt, GREEDY))
    with pytest.raises(HerdError, match="busy"):
        engine.forget()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fuse_bytes": 0},
        {"window_bytes": 0},
        {"prefill_tokens": 5},
        {"page_size": 1},
        {"page_size": 64},
        {"batch": 3},
    ],
    ids=[
        "one pass",
        "plain layers",
        "gathered pages",
        "chunked prefill",
        "pages of one token",
        "one page",
        "small batch",
    ],
)
def test_trainer_prefill_and_cached_decode_agree_in_log_probabilities(
    model: Transformer, make_engine: MakeEngine, options: dict[str, int]
) -> None:
    prompts = prompts_of(6)
    engine = make_engine(**options)
    sampling = Sampling(max_tokens=12, temperature=1, stop_ids=(), seed=1, logprobs=3)
    decoded = engine.generate(prompts, sampling, n=2)
    for prompt, row in zip(prompts, decoded, strict=True):
        for completion in row:
            assert completion.logprobs is not None
            cached = torch.tensor([token.value for token in completion.logprobs])
            trainer_LV = full_logprobs(model, prompt + completion.ids)[len(prompt) - 1 : -1]
            trainer = trainer_LV.gather(1, torch.tensor(completion.ids)[:, None]).squeeze(1)
            [scored] = make_engine(**options).score([prompt], [completion.ids])
            torch.testing.assert_close(cached, trainer, atol=1e-4, rtol=0)
            torch.testing.assert_close(torch.tensor(scored), trainer, atol=1e-4, rtol=0)
            for place, token in enumerate(completion.logprobs):
                best = trainer_LV[place].topk(3)
                torch.testing.assert_close(torch.tensor([v for _, v in token.top]), best.values, atol=1e-4, rtol=0)


def test_a_spoilt_cache_is_noticed(model: Transformer, make_engine: MakeEngine) -> None:
    engine = make_engine()
    prompt = list(range(40))
    [first] = engine.score([prompt], [[7, 8]])
    engine._cache.values[:, :] = 1.0  # what the next request shares is now wrong, and its answer must show it
    [second] = engine.score([prompt], [[7, 8]])
    assert abs(first[0] - second[0]) > 1e-2


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "sampled"])
def test_answers_do_not_depend_on_batch_or_order(make_engine: MakeEngine, sampling: Sampling) -> None:
    prompts = prompts_of(8)
    expected = ids_of(make_engine(batch=1).generate(prompts, sampling, n=2))
    order = random.Random(0).sample(range(8), 8)
    for batch in (1, 3, 8):
        shuffled = ids_of(make_engine(batch=batch).generate([prompts[i] for i in order], sampling, n=2))
        assert shuffled == [expected[i] for i in order]
    alone = [ids_of(make_engine().generate([prompt], sampling, n=2))[0] for prompt in prompts]
    assert alone == expected


def test_outputs_differ_by_seed_and_number_only(make_engine: MakeEngine) -> None:
    engine, prompts = make_engine(), [[65, 66, 67]] * 2
    first, again = ids_of(engine.generate(prompts, WARM, n=4))
    assert first == again
    assert len({tuple(ids) for ids in first}) > 1
    other = Sampling(max_tokens=12, temperature=1.0, top_p=0.95, seed=4)
    assert ids_of(engine.generate(prompts[:1], other, n=4))[0] != first
    assert ids_of(engine.generate(prompts[:1], WARM, n=2))[0] == first[:2]


def test_each_prompt_may_have_its_own_sampling(make_engine: MakeEngine) -> None:
    engine, prompts = make_engine(), prompts_of(2)
    mixed = ids_of(engine.generate(prompts, [GREEDY, WARM]))
    assert mixed == [ids_of(engine.generate(prompts, GREEDY))[0], ids_of(engine.generate(prompts, WARM))[1]]


def test_prompt_pages_are_shared_and_copied_on_write(make_engine: MakeEngine) -> None:
    engine = make_engine(batch=8, page_size=4)
    engine.submit(Request(list(range(42)), Sampling(max_tokens=2, temperature=0, stop_ids=()), n=8))
    engine.step()
    used = engine._scheduler.pool.pages - engine.free_pages
    assert used == 10 + 1 + 8  # ten full pages and the half one once, and a page of its own for each output
    engine.step()
    tables = engine._slots.table[:8]
    assert all(len(set(tables[:, page])) == 1 for page in range(10))
    assert len(set(tables[:, 10])) == 8


def test_equal_beginnings_are_computed_once(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(fuse_bytes=0)
    seen = []
    plain = engine.model.forward

    def forward(tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(len(tokens))
        return plain(tokens, *rest)

    monkeypatch.setattr(engine.model, "forward", forward)
    common = list(range(40))
    engine.score([[*common, 100 + i] for i in range(6)], [[5]] * 6)
    assert sum(seen) == 41 + 5 * 1
    seen.clear()
    [[answer]] = engine.generate([common], GREEDY)
    assert seen[0] == 4  # all but the page whose last token's logits are needed
    seen.clear()
    engine.generate([common + answer.ids + [1, 2]], GREEDY)
    assert seen[0] == 2 + 40 + 12 - 48  # a dialogue's next turn finds the answer's full pages too


def test_the_longest_outputs_fit_or_wait(make_engine: MakeEngine, model: Transformer) -> None:
    page_bytes = 2 * 2 * 2 * 4 * 8 * 4
    engine = make_engine(cache_bytes=page_bytes * 16)
    assert engine._scheduler.pool.pages == 16
    prompts = prompts_of(12, longest=30)
    assert ids_of(engine.generate(prompts, WARM, n=3)) == ids_of(make_engine().generate(prompts, WARM, n=3))
    assert engine.free_pages == 16
    with pytest.raises(HerdError, match="cache pages"):
        engine.generate([[1] * 30], Sampling(max_tokens=60))


@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_any_traffic_leaves_nothing_behind(model: Transformer, tokenizer: Tokenizer, data: st.DataObject) -> None:
    """Requests come and go at any step in a pool that is too small for all; memory is whole again afterwards."""
    page_bytes = 2 * 2 * 2 * 4 * 8 * 4
    engine = Engine(model, tokenizer, EngineConfig(page_size=4, batch=3, cache_bytes=14 * page_bytes, prefill_tokens=7))
    chance = data.draw(st.randoms(use_true_random=False))
    open_requests: dict[int, int] = {}
    for _ in range(data.draw(st.integers(1, 40))):
        action = chance.random()
        if action < 0.4:
            prompt = [chance.choice([1, 2])] * chance.randint(1, 20)
            continuation = [1] * chance.randint(1, 9) if chance.random() < 0.3 else None
            n = 1 if continuation else chance.randint(1, 5)
            sampling = Sampling(max_tokens=chance.randint(1, 8), stop_ids=())
            open_requests[engine.submit(Request(prompt, sampling, n, continuation))] = n
        elif action < 0.5 and open_requests:
            gone = chance.choice(sorted(open_requests))
            engine.cancel(gone)
            del open_requests[gone]
        else:
            for event in engine.step():
                open_requests[event.request] -= 1
    for _ in range(2000):
        if not engine.busy:
            break
        for event in engine.step():
            open_requests[event.request] -= 1
    assert not any(open_requests.values())
    assert engine.free_pages == engine._scheduler.pool.pages == 14
    assert engine._slots.free == 3
    assert not engine._scheduler._being_computed


def test_a_cancelled_request_gives_its_memory_back_at_once(make_engine: MakeEngine) -> None:
    engine = make_engine(batch=4)
    kept = engine.submit(Request([1, 2, 3], GREEDY))
    gone = engine.submit(Request([4, 5, 6], Sampling(max_tokens=200, stop_ids=()), n=6))
    for _ in range(3):
        engine.step()
    engine.cancel(gone)
    assert engine._scheduler.pool.pages - engine.free_pages == 4
    events = [event for _ in range(20) for event in engine.step()]
    assert [event.request for event in events] == [kept]
    assert events[0].completion is not None
    assert [events[0].completion.ids] == ids_of(make_engine().generate([[1, 2, 3]], GREEDY))[0]
    assert not engine.busy


def test_stop_ids_end_an_answer_and_are_not_part_of_its_text(make_engine: MakeEngine, tokenizer: Tokenizer) -> None:
    engine, prompt = make_engine(), [65, 66]
    [[plain]] = engine.generate([prompt], GREEDY)
    stop = plain.ids[5]
    first = plain.ids.index(stop)
    [[stopped]] = engine.generate([prompt], Sampling(max_tokens=12, temperature=0, stop_ids=(stop,)))
    assert stopped.ids == plain.ids[: first + 1]
    assert (stopped.finish_reason, stopped.stop_id) == ("stop", stop)
    assert stopped.text == tokenizer.decode(plain.ids[:first])
    assert stopped.prompt_tokens == 2


def test_the_terminator_of_a_tool_call_is_named(make_engine: MakeEngine, tokenizer: Tokenizer) -> None:
    engine = make_engine()
    for seed in range(40):
        sampling = Sampling(max_tokens=9, temperature=100, top_p=1, seed=seed, grammar=Grammar.regex("a"))
        [[completion]] = engine.generate([[65]], sampling)
        expected = "eom" if completion.stop_id == tokenizer.eom_id else "stop"
        assert (completion.text, completion.finish_reason) == ("a", expected)


def test_stop_strings_cut_the_text(make_engine: MakeEngine) -> None:
    engine, prompt = make_engine(), [65, 66]
    [[plain]] = engine.generate([prompt], GREEDY)
    stop = plain.text[6:8]
    [[stopped]] = engine.generate([prompt], Sampling(max_tokens=12, temperature=0, stop_ids=(), stop=(stop,)))
    assert stopped.text == plain.text[: plain.text.index(stop)]
    assert stopped.finish_reason == "stop"


def test_streamed_events_add_up_to_the_completion(make_engine: MakeEngine) -> None:
    engine = make_engine()
    request = Request([65, 66], Sampling(max_tokens=9, seed=2, logprobs=1), n=2, stream=True)
    engine.submit(request)
    texts, ids, logprobs, done = ["", ""], [[], []], [[], []], [None, None]
    while engine.busy:
        for event in engine.step():
            texts[event.output] += event.text
            ids[event.output] += event.ids
            logprobs[event.output] += event.logprobs
            done[event.output] = event.completion
    for output, completion in enumerate(done):
        assert completion is not None
        assert (texts[output], ids[output], logprobs[output]) == (completion.text, completion.ids, completion.logprobs)


def test_the_models_length_bounds_an_answer(make_engine: MakeEngine) -> None:
    engine = make_engine()
    [[completion]] = engine.generate([[1] * 250], Sampling(max_tokens=100, temperature=0, stop_ids=()))
    assert (len(completion.ids), completion.finish_reason) == (6, "length")
    assert len(engine.score([[1] * 200], [[2] * 56])[0]) == 56


@pytest.mark.parametrize("setting", ["batch", "page_size", "cache_bytes", "prefill_tokens"])
def test_settings_with_which_nothing_would_ever_run_are_refused(setting: str) -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        EngineConfig(**{setting: 0})


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request([]), "at least one token"),
        (Request([1] * 256), "leave no room"),
        (Request([1] * 200, continuation=[2] * 58), "leave no room"),
        (Request([1], continuation=[]), "continuation must hold"),
        (Request([99_999]), "outside the vocabulary"),
        (Request([1], n=0), "n must be at least 1"),
    ],
)
def test_what_can_never_run_is_refused(make_engine: MakeEngine, request_: Request, says: str) -> None:
    with pytest.raises(HerdError, match=says):
        make_engine().submit(request_)


def test_an_engine_is_loaded_from_a_directory(
    model: Transformer, tokenizer: Tokenizer, make_engine: MakeEngine, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path / "tokenizer")
    save_model(model, tmp_path / "tokenizer", tmp_path / "chat")
    engine = Engine.load(tmp_path / "chat")
    prompt = engine.chat.encode([{"role": "user", "content": "Hello"}], open_assistant=True).ids
    assert ids_of(engine.generate([prompt], GREEDY)) == ids_of(make_engine().generate([prompt], GREEDY))
    save_model(RewardModel.from_transformer(model, seed=1), tmp_path / "tokenizer", tmp_path / "reward")
    with pytest.raises(HerdError, match="reward model"):
        Engine.load(tmp_path / "reward")


def test_the_window_follows_outputs_that_come_and_go(make_engine: MakeEngine) -> None:
    """Outputs of many lengths pass through few slots; with and without the window the answers are the same."""
    chance = random.Random(2)
    prompts = prompts_of(30, seed=4)
    samplings = [Sampling(max_tokens=chance.randint(1, 60), stop_ids=(), seed=1) for _ in prompts]
    engine, plain = make_engine(batch=5), make_engine(batch=5, window_bytes=0)
    assert ids_of(engine.generate(prompts, samplings)) == ids_of(plain.generate(prompts, samplings))
    assert engine._window._capacity > 0
    assert plain._window._capacity == 0


def test_training_on_is_noticed(model: Transformer, tokenizer: Tokenizer) -> None:
    """Neither fused matrices nor cached pages of the older weights may answer for the newer ones."""
    changing = copy.deepcopy(model)
    engine = Engine(changing, tokenizer, EngineConfig(page_size=4, batch=4))
    prompt, continuation = list(range(30)), [5, 6, 7]
    engine.score([prompt], [continuation])
    with torch.no_grad():
        for parameter in changing.parameters():
            parameter.mul_(1.1)
    [scored] = engine.score([prompt], [continuation])
    trainer = full_logprobs(changing, prompt + continuation)[29:-1].gather(1, torch.tensor(continuation)[:, None])
    torch.testing.assert_close(torch.tensor(scored), trainer.squeeze(1), atol=1e-4, rtol=0)


def test_an_engine_in_use_refuses_to_be_driven_twice(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.submit(Request([1, 2]))
    with pytest.raises(HerdError, match="busy"):
        engine.generate([[1]])
