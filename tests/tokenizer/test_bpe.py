"""Learning a vocabulary: the asked size, the same every time, from the asked mix, in bounded memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.tokenizer.bpe import TokenizerConfig, train_bpe, train_tokenizer
from herd.tokenizer.tokenizer import Tokenizer

WORDS = [f"{a}{b}{c}" for a in ("lo", "wi", "he", "sta") for b in ("w", "d", "ng") for c in ("er", "est", "s", "")]


def texts(count: int, words: list[str] = WORDS) -> list[str]:
    return [" ".join(words[(n * 5 + k * k) % len(words)] for k in range(40)) for n in range(count)]


def test_the_size_counts_bytes_merges_and_control_tokens() -> None:
    tokenizer = train_bpe(texts(50), 530)
    assert tokenizer.vocab_size == 530
    assert len(tokenizer.ranks) == 274
    assert train_bpe([], 512).vocab_size == 512


def test_the_first_merges_are_the_most_frequent_pairs() -> None:
    tokenizer = train_bpe([" ab" * 10 + " cd" * 6 + " abe" * 3], 512 + 4)
    assert list(tokenizer.ranks)[256:] == [b"ab", b" ab", b"cd", b" cd"]


def test_merges_stay_within_the_pattern() -> None:
    tokenizer = train_bpe(["the 12345 cat's\n\n  dog. " * 50], 512 + 14)
    learnt = [token.decode() for token in list(tokenizer.ranks)[256:]]
    assert not any(" " in token[1:] and token.strip() for token in learnt), "a token reaches over a word's end"
    assert all(len(token) <= 3 for token in learnt if token.isdigit())


def test_the_same_in_another_process_with_other_threads() -> None:
    code = "import sys; from herd.tokenizer.bpe import train_bpe; print(train_bpe(eval(sys.argv[1]), 560).ranks)"
    expected = f"{train_bpe(texts(300), 560).ranks}\n"
    for threads in ("1", "3"):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        command = [sys.executable, "-c", code, repr(texts(300))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == expected


def test_asking_for_more_than_the_text_gives_is_refused() -> None:
    with pytest.raises(HerdError, match="gives a vocabulary of 513 at most; vocab_size 600 asks for more"):
        train_bpe(["ab"], 600)
    with pytest.raises(HerdError, match="a vocabulary of 511 is too small"):
        train_bpe(["text"], 511)


def write_corpus(corpus: Path) -> None:
    rows = [{"text": text, "domain": "general", "language": "en"} for text in texts(400)]
    rows += [{"text": text, "domain": "code", "language": "en"} for text in texts(100, ["def", "return", "self."])]
    rows += [
        {"text": text, "domain": "multilingual", "language": "de"} for text in texts(100, ["Straße", "Öl", "über"])
    ]
    for number, row in enumerate(rows):
        row["id"] = f"doc-{number}"
    for folder, chosen in (("documents", rows[::2]), ("heldout", rows[1::20])):
        (corpus / folder).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(chosen), corpus / folder / "000.parquet")


def test_the_stage_writes_a_tokenizer_and_its_figures(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    out = tmp_path / "tokenizer"
    out.mkdir()
    train_tokenizer(TokenizerConfig(vocab_size=540), tmp_path / "corpus", out, Progress.silent())
    tokenizer = Tokenizer.load(out)
    assert tokenizer.vocab_size == 540
    stats = json.loads((out / "stats.json").read_text())
    assert stats["measured_on"] == "heldout"
    german = stats["compression"]["multilingual/de"]
    held = pq.read_table(tmp_path / "corpus" / "heldout" / "000.parquet").to_pylist()
    expected = [row["text"] for row in held if row["language"] == "de"]
    assert german["documents"] == len(expected) == 5
    assert german["characters"] == sum(map(len, expected))
    assert german["bytes"] == sum(len(text.encode()) for text in expected) > german["characters"]
    assert german["tokens"] == sum(len(tokenizer.encode(text)) for text in expected)
    assert german["characters_per_token"] == pytest.approx(german["characters"] / german["tokens"])


def test_the_sample_follows_the_domain_weights(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    tokens = {}
    for name, weights in (("german", {"multilingual": 1.0}), ("code", {"code": 1.0, "math": 3.0})):
        out = tmp_path / name
        out.mkdir()
        train_tokenizer(
            TokenizerConfig(vocab_size=519, domain_weights=weights), tmp_path / "corpus", out, Progress.silent()
        )
        tokens[name] = b" ".join(list(Tokenizer.load(out).ranks)[256:]).decode(errors="replace")
    assert "Öl" in tokens["german"]
    assert "Öl" not in tokens["code"]
    assert "se" in tokens["code"]


def test_words_of_the_chat_format_become_tokens_where_they_are_asked_for(tmp_path: Path) -> None:
    words = [
        "system",
        "Environment",
        " ipython",
        "Tools",
        "user",
        "assistant",
        "search",
        ".call",
        "stdout",
        "completed",
    ]
    whole = {}
    write_corpus(tmp_path / "corpus")
    for share in (0.0, 0.9):
        out = tmp_path / f"out-{share}"
        out.mkdir()
        config = TokenizerConfig(vocab_size=580, dialogue_share=share)
        train_tokenizer(config, tmp_path / "corpus", out, Progress.silent())
        tokenizer = Tokenizer.load(out)
        whole[share] = [word for word in words if len(tokenizer.encode(word)) == 1]
    assert whole == {0.0: [], 0.9: words}


def test_a_smaller_sample_reads_fewer_documents(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    out = tmp_path / "out"
    out.mkdir()
    config = TokenizerConfig(vocab_size=519, sample_characters=20_000, domain_weights={"general": 0.5, "code": 0.5})
    train_tokenizer(config, tmp_path / "corpus", out, Progress.silent())
    stats = json.loads((out / "stats.json").read_text())
    sizes = {
        "general": sum(map(len, texts(400)[::2])),
        "code": sum(map(len, texts(100, ["def", "return", "self."])[::2])),
    }
    read = {name: share * sizes[name] for name, share in stats["sampled_shares"].items()}
    assert read["general"] == pytest.approx(read["code"])
    assert sum(read.values()) <= 20_000
    config = TokenizerConfig(
        vocab_size=519, sample_characters=2 * sizes["code"] + 2_000, domain_weights=config.domain_weights
    )
    train_tokenizer(config, tmp_path / "corpus", out, Progress.silent())
    shares = json.loads((out / "stats.json").read_text())["sampled_shares"]
    assert shares["code"] == 1.0
    assert shares["general"] * sizes["general"] == pytest.approx(sizes["code"] + 1_000)


def test_an_empty_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match=r"documents: holds no Parquet file"):
        train_tokenizer(TokenizerConfig(), tmp_path, tmp_path, Progress.silent())
    (tmp_path / "documents").mkdir()
    nothing = pa.table({name: pa.array([], pa.string()) for name in ("id", "text", "domain")})
    pq.write_table(nothing, tmp_path / "documents" / "0.parquet")
    with pytest.raises(HerdError, match="the corpus is empty"):
        train_tokenizer(TokenizerConfig(), tmp_path, tmp_path, Progress.silent())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_the_corpus() -> None:
    code = """
import resource, sys
from herd.tokenizer.bpe import train_bpe
words = [f"w{n % 7919}x{n % 6007}" for n in range(20_000)]
def texts(millions):
    for part in range(millions * 5):
        yield " ".join(words[(k * (part + 1)) % len(words)] for k in range(18_000))
train_bpe(texts(int(sys.argv[1])), 1024)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = []
    for millions in ("2", "20"):
        done = subprocess.run([sys.executable, "-c", code, millions], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] + 60_000, f"peaks in KiB: {peaks}"
