"""Documents to shards: complete, the same however the work is cut, and resumed where it was killed."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.tokenizer.bpe import train_bpe
from herd.tokenizer.tokenizer import Tokenizer
from herd.train.shards import TokenizeConfig, token_type, tokenize
from herd.train.tokens import TokenShard, open_shards

DOMAINS = ("general", "code")


def text_of(number: int) -> str:
    return f"Document {number} says: " + " ".join(f"word{(number * 7 + k) % 50}" for k in range(20)) + " ümläut 你好"


def write_corpus(corpus: Path, documents: int, files: int, rows_in_group: int = 64) -> None:
    per_file = documents // files
    for file in range(files):
        numbers = range(file * per_file, (file + 1) * per_file)
        rows = [
            {"id": f"doc-{n}", "text": text_of(n), "domain": DOMAINS[n % 2], "quality": n / documents} for n in numbers
        ]
        folder = corpus / ("heldout" if file == files - 1 else "documents")
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{file:03d}.parquet", row_group_size=rows_in_group)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    train_bpe((text_of(number) for number in range(200)), 560).save(directory)
    return directory


def contents(tokens: Path) -> dict[str, bytes]:
    files = [path for path in sorted(tokens.rglob("*")) if path.is_file() and path.name != "stats.json"]
    return {str(path.relative_to(tokens)): path.read_bytes() for path in files}


@pytest.mark.parametrize(("part_documents", "rows_in_group"), [(7, 10), (100, 64), (1000, 3)])
def test_shards_hold_every_document_in_order(
    tmp_path: Path, tokenizer: Path, part_documents: int, rows_in_group: int
) -> None:
    write_corpus(tmp_path / "corpus", 300, 3, rows_in_group)
    config = TokenizeConfig(part_documents=part_documents, workers=1)
    tokenize(config, tmp_path / "corpus", tokenizer, tmp_path / "tokens", Progress.silent())
    loaded = Tokenizer.load(tokenizer)
    for split, first, last in (("train", 0, 200), ("heldout", 200, 300)):
        shards = open_shards(tmp_path / "tokens", split)
        for place, domain in enumerate(DOMAINS):
            numbers = [number for number in range(first, last) if number % 2 == place]
            shard = shards[domain]
            assert len(shard) == len(numbers)
            assert shard.ids == [f"doc-{number}" for number in numbers]
            assert shard.quality == pytest.approx([number / 300 for number in numbers])
            for index, number in enumerate(numbers):
                expected = [loaded.bos_id, *loaded.encode(text_of(number)), loaded.eos_id]
                assert shard.document(index).tolist() == expected
    meta = json.loads((tmp_path / "tokens" / "meta.json").read_text())
    sizes = meta["splits"]["train"]["general"]
    texts = [text_of(number) for number in range(0, 200, 2)]
    assert sizes["documents"] == 100
    assert sizes["characters"] == sum(map(len, texts))
    assert sizes["bytes"] == sum(len(text.encode()) for text in texts)
    assert sizes["tokens"] == open_shards(tmp_path / "tokens")["general"].tokens
    assert meta["dtype"] == "uint16"
    assert not (tmp_path / "tokens" / "parts").exists()


def test_workers_and_parts_do_not_change_the_tokens(tmp_path: Path, tokenizer: Path) -> None:
    write_corpus(tmp_path / "corpus", 300, 3)
    for name, config in {
        "one": TokenizeConfig(part_documents=1000, workers=1),
        "two": TokenizeConfig(part_documents=30, workers=2),
    }.items():
        tokenize(config, tmp_path / "corpus", tokenizer, tmp_path / name, Progress.silent())
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


_CHILD = """
import sys
from pathlib import Path
from herd.foundation.progress import Progress
from herd.train.shards import TokenizeConfig, tokenize
if __name__ == "__main__":
    root, workers = Path(sys.argv[1]), int(sys.argv[3])
    config = TokenizeConfig(part_documents=40, workers=workers)
    tokenize(config, root / "corpus", Path(sys.argv[2]), root / "tokens", Progress.silent())
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_repeats_at_most_one_part_a_worker(tmp_path: Path, tokenizer: Path, workers: int) -> None:
    write_corpus(tmp_path / "corpus", 1_200, 3)
    script = tmp_path / "child.py"
    script.write_text(_CHILD)
    child = subprocess.Popen([sys.executable, str(script), str(tmp_path), str(tokenizer), str(workers)])
    parts = tmp_path / "tokens" / "parts"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(parts.glob("train-*"))) < 5:
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    time.sleep(0.5)  # the workers notice that their parent is gone
    finished = {path.name: path.stat().st_mtime_ns for path in parts.glob("[!.]*") if path.is_dir()}
    assert 5 <= len(finished) < 30
    time.sleep(0.5)
    assert {path.name for path in parts.glob("[!.]*") if path.is_dir()} == set(finished), "a worker outlived its parent"
    config = TokenizeConfig(part_documents=40, workers=1)
    tokenize(config, tmp_path / "corpus", tokenizer, tmp_path / "tokens", Progress.silent())
    stats = json.loads((tmp_path / "tokens" / "stats.json").read_text())
    assert stats["parts"] == 30
    assert stats["parts_written_now"] == 30 - len(finished)
    tokenize(config, tmp_path / "corpus", tokenizer, tmp_path / "whole", Progress.silent())
    assert contents(tmp_path / "tokens") == contents(tmp_path / "whole")


def test_parts_of_another_corpus_are_not_used(tmp_path: Path, tokenizer: Path) -> None:
    write_corpus(tmp_path / "corpus", 90, 3)
    stale = tmp_path / "tokens" / "parts" / "train-000-000000000000"
    stale.mkdir(parents=True)
    (stale.parent / "plan.json").write_text('"of another corpus"')
    tokenize(TokenizeConfig(workers=1), tmp_path / "corpus", tokenizer, tmp_path / "tokens", Progress.silent())
    assert len(open_shards(tmp_path / "tokens")["general"]) == 30


def test_the_type_follows_the_vocabulary() -> None:
    assert token_type(65_536) == np.dtype("<u2")
    assert token_type(65_537) == np.dtype("<u4")


def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path) -> None:
    shared = Path(__file__).parents[2].parent / "shared" / "data" / "llama3-tokenizer"
    if not shared.is_dir():
        pytest.skip("the published rank file is not here")
    write_corpus(tmp_path / "corpus", 30, 3)
    tokenize(TokenizeConfig(workers=1), tmp_path / "corpus", shared, tmp_path / "tokens", Progress.silent())
    shard = TokenShard(tmp_path / "tokens" / "train" / "general.bin")
    assert shard.document(0)[0] == 128_000
    assert Tokenizer.load(shared).decode(shard.document(0)[1:-1].tolist()) == text_of(0)


def test_a_tokenizer_json_alone_makes_the_same_tokens(tmp_path: Path, tokenizer: Path) -> None:
    write_corpus(tmp_path / "corpus", 90, 3)
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "tokenizer.json").write_bytes((tokenizer / "tokenizer.json").read_bytes())
    said = io.StringIO()
    for name, path in (("ranks", tokenizer), ("json", tmp_path / "alone")):
        tokenize(TokenizeConfig(workers=1), tmp_path / "corpus", path, tmp_path / name, Progress(said))
    first, second = contents(tmp_path / "ranks"), contents(tmp_path / "json")
    assert {name: data for name, data in first.items() if name != "meta.json"} == {
        name: data for name, data in second.items() if name != "meta.json"
    }
    stats = json.loads((tmp_path / "json" / "stats.json").read_text())
    sizes = [size["tokens"] for split in stats["splits"].values() for size in split.values()]
    assert stats["tokens_written_now"] == sum(sizes)
    assert re.search(r"tokenising: 90 of 90 documents, .* tokens/s", said.getvalue())


def test_bad_input_is_named(tmp_path: Path, tokenizer: Path) -> None:
    corpus = tmp_path / "corpus"
    with pytest.raises(HerdError, match=r"documents: holds no Parquet file"):
        tokenize(TokenizeConfig(), corpus, tokenizer, tmp_path / "tokens", Progress.silent())
    (corpus / "documents").mkdir(parents=True)
    (corpus / "documents" / "a.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(HerdError, match=r"a\.parquet: not readable as Parquet"):
        tokenize(TokenizeConfig(), corpus, tokenizer, tmp_path / "tokens", Progress.silent())
    pq.write_table(pa.table({"title": ["x"]}), corpus / "documents" / "a.parquet")
    with pytest.raises(HerdError, match=r"a\.parquet: has no column 'text'"):
        tokenize(TokenizeConfig(workers=1), corpus, tokenizer, tmp_path / "tokens", Progress.silent())
    pq.write_table(pa.table({"text": [1, 2]}), corpus / "documents" / "a.parquet")
    with pytest.raises(HerdError, match=r"a\.parquet: the column 'text' holds int64, not text"):
        tokenize(TokenizeConfig(workers=1), corpus, tokenizer, tmp_path / "tokens", Progress.silent())
    pq.write_table(pa.table({"text": ["x"], "domain": ["../up"]}), corpus / "documents" / "a.parquet")
    with pytest.raises(HerdError, match=r"a\.parquet: the domain '\.\./up' cannot be the name of a file"):
        tokenize(TokenizeConfig(workers=1), corpus, tokenizer, tmp_path / "tokens", Progress.silent())
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), corpus / "documents" / "a.parquet")
    with pytest.raises(HerdError, match="nothing to tokenise"):
        tokenize(TokenizeConfig(workers=1), corpus, tokenizer, tmp_path / "tokens", Progress.silent())


def test_every_document_keeps_its_id_whatever_stands_in_it(tmp_path: Path, tokenizer: Path) -> None:
    names = ["a\u2028b", "a\x0cb", "two\nlines", "", "last\x85"]
    rows = [{"id": name, "text": None if name == "" else "words", "domain": "general"} for name in names]
    (tmp_path / "corpus" / "documents").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "corpus" / "documents" / "a.parquet")
    tokenize(TokenizeConfig(workers=1), tmp_path / "corpus", tokenizer, tmp_path / "tokens", Progress.silent())
    shard = open_shards(tmp_path / "tokens")["general"]
    assert shard.ids == ["a\u2028b", "a\x0cb", "two lines", "", "last\x85"]
    assert shard.lengths.tolist()[3] == 2  # a document without text has its begin and end alone
