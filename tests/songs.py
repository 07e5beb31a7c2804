"""Counting songs as a corpus: token shards and a tokenizer, small enough to be made for every run of the tests."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from herd.foundation.progress import Progress
from herd.tokenizer.bpe import train_bpe
from herd.train.shards import TokenizeConfig, tokenize

VOCABULARY = 600


def make_songs(root: Path) -> tuple[Path, Path]:
    """The directories of the token shards, held-out ones among them, and of the tokenizer, both below ``root``."""
    texts = [" ".join(f"{number} green bottles on the wall" for number in range(n, n + 30)) for n in range(60)]
    for folder, chosen in {"documents": texts[:50], "heldout": texts[50:]}.items():
        (root / "corpus" / folder).mkdir(parents=True)
        rows = [
            {"id": f"{folder}{n}", "text": text, "domain": "general", "language": "en", "quality": 1.0}
            for n, text in enumerate(chosen)
        ]
        pq.write_table(pa.Table.from_pylist(rows), root / "corpus" / folder / "0.parquet")
    train_bpe(texts, VOCABULARY).save(root / "tokenizer")
    (root / "tokens").mkdir()
    tokenize(TokenizeConfig(workers=1), root / "corpus", root / "tokenizer", root / "tokens", Progress.silent())
    return root / "tokens", root / "tokenizer"
