"""The order of the training data: exact shares, nothing lost, nothing remembered."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herd.foundation.errors import HerdError
from herd.foundation.files import write_json
from herd.train.stream import Mix, Source, TokenStream, capped_shares, choose_documents, turn_table
from herd.train.tokens import TokenShard

BEGIN, END = 0, 1


def make_shard(directory: Path, name: str, lengths: list[int], first_id: int = 10) -> TokenShard:
    """A shard whose ordinary tokens are all different, so that each can be recognised wherever it comes up."""
    documents, following = [], first_id
    for length in lengths:
        documents.append([BEGIN, *range(following, following + length - 2), END])
        following += length - 2
    split = directory / "train"
    split.mkdir(parents=True, exist_ok=True)
    np.concatenate([np.array(document, dtype="<u4") for document in documents]).tofile(split / f"{name}.bin")
    np.save(split / f"{name}.index.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    np.save(split / f"{name}.quality.npy", np.arange(len(lengths), dtype=np.float32))
    write_json(directory / "meta.json", {"dtype": "uint32"})
    return TokenShard(split / f"{name}.bin")


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 60), min_size=1, max_size=12),
    window=st.integers(1, 40),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 2**40),
)
def test_every_token_of_an_epoch_is_an_input_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], window: int, epochs: int, seed: int
) -> None:
    shard = make_shard(tmp_path_factory.mktemp("tokens"), "general", lengths)
    stream = TokenStream([Source(shard, 1.0)], seed, window)
    # So many windows fill whole epochs exactly: the line of as many epochs as the window has tokens.
    samples = epochs * window * shard.tokens // window
    seen: Counter[int] = Counter()
    for number in range(samples):
        seen.update(stream.sample(number).tokens[:-1].tolist())
    expected = Counter(np.concatenate([shard.document(n) for n in range(len(shard))]).tolist())
    assert seen == Counter({token: count * epochs * window for token, count in expected.items()})


def test_one_epoch_is_complete_before_the_next_begins(tmp_path: Path) -> None:
    shard = make_shard(tmp_path, "general", [30, 50, 20, 60])
    stream = TokenStream([Source(shard, 1.0)], 3, 16)
    inputs = [token for number in range(10) for token in stream.sample(number).tokens[:-1].tolist()]
    assert sorted(inputs) == sorted(np.concatenate([shard.document(n) for n in range(4)]).tolist())
    second = [token for number in range(10, 20) for token in stream.sample(number).tokens[:-1].tolist()]
    assert sorted(second) == sorted(inputs)
    assert second != inputs


def test_every_epoch_puts_other_documents_together(tmp_path: Path) -> None:
    shard = make_shard(tmp_path, "general", [8] * 20)
    stream = TokenStream([Source(shard, 1.0)], 3, 16)
    neighbours = [
        {tuple(stream.sample(number).tokens[[1, 9]].tolist()) for number in range(10 * epoch, 10 * epoch + 10)}
        for epoch in range(3)
    ]
    assert len(neighbours[0]) == 10
    assert len(neighbours[0] & neighbours[1]) < 5
    assert len(neighbours[1] & neighbours[2]) < 5


def test_the_mix_changes_at_its_sample_and_no_document_is_lost_or_read_again(tmp_path: Path) -> None:
    general, code = make_shard(tmp_path, "general", [48] * 8), make_shard(tmp_path, "code", [48] * 4, first_id=1000)
    math = make_shard(tmp_path, "math", [48] * 4, first_id=2000)
    later = {
        8: [Source(code, 0.5), Source(general, 0.5)],
        20: [Source(math, 0.75), Source(general, 0.25)],
    }
    first = [Source(general, 0.75), Source(code, 0.25)]
    stream = TokenStream(first, 3, 16, later)
    domains = [stream.sample(number).domain for number in range(36)]
    counted = [dict(Counter(domains[start:end])) for start, end in ((0, 8), (8, 20), (20, 36))]
    assert counted == [{"general": 6, "code": 2}, {"code": 6, "general": 6}, {"math": 12, "general": 4}]
    # 16 of the 24 windows of general are read, all of code's 12 but 4, and all of math's: none twice.
    seen = Counter(token for number in range(36) for token in stream.sample(number).tokens[:-1].tolist() if token > END)
    assert set(seen.values()) == {1}
    assert stream.epochs(36) == pytest.approx({"general": 16 / 24, "code": 8 / 12, "math": 1.0})
    assert stream.mix(36) == pytest.approx({"general": 16 / 36, "code": 8 / 36, "math": 12 / 36})
    assert stream.mix(8) == {"general": 0.75, "code": 0.25}
    # Up to the change, the samples are those of the first mix alone, and each can be asked for by itself.
    alone = TokenStream(first, 3, 16)
    for number in np.random.default_rng(0).permutation(36):
        own = TokenStream(first, 3, 16, later).sample(int(number)).tokens
        assert own.tolist() == stream.sample(int(number)).tokens.tolist()
        assert number >= 8 or own.tolist() == alone.sample(int(number)).tokens.tolist()


def test_other_documents_of_a_domain_are_a_line_of_their_own(tmp_path: Path) -> None:
    shard = make_shard(tmp_path, "general", [32] * 8)
    best = Source(shard, 1.0, np.array([5, 6]))
    stream = TokenStream([Source(shard, 1.0)], 3, 16, {4: [best]})
    chosen = Counter(np.concatenate([shard.document(5), shard.document(6)]).tolist())
    assert Counter(t for n in range(4, 8) for t in stream.sample(n).tokens[:-1].tolist()) == chosen


def test_pieces_are_cut_at_documents_and_only_there(tmp_path: Path) -> None:
    shard = make_shard(tmp_path, "general", [9, 31, 14, 6])
    stream = TokenStream([Source(shard, 1.0)], 5, 12)
    for number in range(40):
        sample = stream.sample(number)
        assert len(sample.tokens) == sum(sample.lengths) == 13
        ends = np.cumsum(sample.lengths)
        for place in range(13):
            is_last_of_piece = place + 1 in ends
            assert is_last_of_piece == (sample.tokens[place] == END or place == 12)


def test_samples_do_not_depend_on_what_was_read_before(tmp_path: Path) -> None:
    sizes = {"general": [40] * 9, "code": [25] * 30}
    shards = [make_shard(tmp_path, name, lengths) for name, lengths in sizes.items()]
    sources = [Source(shard, weight) for shard, weight in zip(shards, (0.7, 0.3), strict=True)]
    forward = TokenStream(sources, 11, 32)
    in_order = [forward.sample(number).tokens.tolist() for number in range(200)]
    for number in np.random.default_rng(0).permutation(200):
        assert TokenStream(sources, 11, 32).sample(int(number)).tokens.tolist() == in_order[number]
    assert [TokenStream(sources, 12, 32).sample(number).tokens.tolist() for number in range(200)] != in_order


def test_shares_are_exact_over_a_period_and_close_within(tmp_path: Path) -> None:
    shares = (0.5, 0.25, 0.17, 0.08)
    turns = turn_table(shares)
    assert len(turns) == 100
    assert np.bincount(turns).tolist() == [50, 25, 17, 8]
    for prefix in range(1, 101):
        drift = np.bincount(turns[:prefix], minlength=4) - np.array(shares) * prefix
        assert np.abs(drift).max() < 2


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=8))
def test_turns_follow_any_shares(weights: list[float]) -> None:
    shares = np.array(weights) / sum(weights)
    turns = turn_table(shares.tolist())
    got = np.bincount(turns, minlength=len(shares)) / len(turns)
    assert np.abs(got - shares).max() <= (len(shares) + 1) / 10_000
    assert got.min() > 0


def test_long_documents_are_spread_over_the_epoch(tmp_path: Path) -> None:
    shard = make_shard(tmp_path, "general", [6400] + [64] * 100)
    stream = TokenStream([Source(shard, 1.0)], 1, 64)
    from_long = [int(stream.sample(number).tokens[1]) < 6400 + 8 for number in range(200)]
    assert 60 < sum(from_long) < 140
    longest_stretch = max(len(stretch) for stretch in "".join("x" if each else " " for each in from_long).split())
    assert longest_stretch < 20


def test_mix_leaves_out_what_is_absent_and_caps_what_is_short(tmp_path: Path) -> None:
    general, code = make_shard(tmp_path, "general", [100] * 50), make_shard(tmp_path, "code", [100] * 5)
    shards = {"general": general, "code": code}
    weights = {"general": 0.5, "math": 0.25, "code": 0.25}
    sources = {source.shard.name: source for source in Mix(weights=weights).sources(shards)}
    assert sources["general"].weight == pytest.approx(2 / 3)
    assert sources["code"].weight == pytest.approx(1 / 3)
    capped = {s.shard.name: s.weight for s in Mix(weights=weights, max_epochs=4).sources(shards, 10_000)}
    assert capped == pytest.approx({"general": 0.8, "code": 0.2})
    stream = TokenStream(Mix(weights=weights, max_epochs=4).sources(shards, 10_000), 0, 50)
    assert stream.epochs(200)["code"] == pytest.approx(4, abs=0.2)
    with pytest.raises(HerdError, match="only 88% of the run"):
        Mix(weights=weights, max_epochs=4).sources(shards, 25_000)
    with pytest.raises(HerdError, match="leaves no document"):
        Mix(weights={"math": 1.0}).sources(shards)


def test_capped_shares_pass_on_until_all_fit() -> None:
    shares = capped_shares({"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 0.2, "b": 0.45, "c": 1.0})
    assert shares == pytest.approx({"a": 0.2, "b": 0.45, "c": 0.35})


def test_best_and_long_documents_are_chosen(tmp_path: Path) -> None:
    shard = make_shard(tmp_path, "general", [10, 200, 30, 400, 50])
    assert choose_documents(shard, min_tokens=40).tolist() == [1, 3, 4]
    assert choose_documents(shard, best_fraction=0.4).tolist() == [3, 4]
    assert choose_documents(shard, min_tokens=40, best_fraction=0.5).tolist() == [3, 4]
    mix = Mix(min_tokens=40, short_fraction=0.25)
    sources = mix.sources({"general": shard})
    assert [source.weight for source in sources] == pytest.approx([0.75, 0.25])
    stream = TokenStream(sources, 0, 16)
    long_ids = {int(token) for number in (1, 3, 4) for token in shard.document(number)}
    samples = [stream.sample(number).tokens for number in range(400)]
    only_long = sum(set(sample.tolist()) <= long_ids for sample in samples)
    assert 300 <= only_long < 400


def test_a_cut_shard_is_named(tmp_path: Path) -> None:
    shard = make_shard(tmp_path, "general", [10, 20])
    with shard.path.open("r+b") as file:
        file.truncate(50)
    with pytest.raises(HerdError, match=r"general\.bin: has 50 bytes where its index asks for 120"):
        TokenShard(shard.path)


def test_long_and_short_documents_are_capped_by_their_own_part_of_the_run(tmp_path: Path) -> None:
    shard = make_shard(tmp_path, "general", [10] * 20 + [200] * 4)
    mix = Mix(min_tokens=100, short_fraction=0.5, max_epochs=2)
    assert [source.weight for source in mix.sources({"general": shard}, 3_000)] == pytest.approx([0.5, 0.5])
    with pytest.raises(HerdError, match="only 80% of the run"):
        mix.sources({"general": shard}, 4_000)
