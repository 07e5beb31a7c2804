"""Exact repeats against a suffix array, whatever the partitions; which copy stays; what is left of the texts."""

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from herd.cli import app
from herd.corpus.documents import DocumentWriter, document_schema
from herd.corpus.substrings import SubstringConfig, cut_mask, drop_substrings, without_tokens
from herd.foundation.files import read_json, write_json
from herd.foundation.progress import Progress

Texts = list[list[int]]


def corpus(place: Path, texts: list[str], domains: list[str] | None = None) -> Path:
    with DocumentWriter(place / "documents", document_schema(())) as writer:
        for n, text in enumerate(texts):
            row = {"id": f"d{n:03}", "text": text, "quality": 0.5, "domain": domains[n] if domains else "general"}
            writer.add(row)
        counts = {"documents": writer.documents, "characters": writer.characters}
    write_json(place / "stats.json", {"funnel": [{"step": "pages", "heldout": 0, **counts}]})
    return place


def dropped(place: Path, out: Path, **changes: Any) -> dict[str, str]:
    config = SubstringConfig.model_validate({"minimum_words": 0} | changes)
    out.mkdir(parents=True)
    drop_substrings(config, place, out, Progress.silent())
    assert not (out / "work").exists()
    return {row["id"]: row["text"] for row in pq.read_table(out / "documents").to_pylist()}


def by_suffix_array(texts: Texts, length: int) -> Texts:
    """What is left: all suffixes sorted, neighbours with a common beginning of ``length`` are repeats."""
    line: list[tuple[int, int]] = []
    owner: list[int] = []
    for number, text in enumerate(texts):
        line += [(token, 0) for token in text] + [(number, 1)]  # the end of a text is like nothing else
        owner += [number] * (len(text) + 1)
    order = sorted(range(len(line)), key=lambda start: line[start:])
    repeated: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for one, other in itertools.pairwise(order):
        if len(line[one : one + length]) == length and line[one : one + length] == line[other : other + length]:
            repeated.setdefault(tuple(line[one : one + length]), []).extend((one, other))
    again, first = set(), set()
    for places in repeated.values():
        keeper = min(places)
        first.update(range(keeper, keeper + length))
        for place in set(places) - {keeper}:
            again.update(range(place, place + length))
    left: Texts = [[] for _ in texts]
    for place, (token, end) in enumerate(line):
        if not end and (place not in again or place in first):
            left[owner[place]].append(token)
    return left


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), max_size=25), min_size=1, max_size=5), st.integers(2, 5), st.integers(1, 4))
def test_it_finds_what_a_suffix_array_finds(
    tmp_path_factory: pytest.TempPathFactory, texts: Texts, length: int, partitions: int
) -> None:
    texts = [*texts, [9, 8, 7, 6, 5, 4]]  # something is always left
    place = tmp_path_factory.mktemp("exact")
    made = corpus(place / "corpus", [" ".join(map(str, text)) for text in texts])
    found = dropped(made, place / "out", minimum_tokens=length, partitions=partitions)
    assert [[int(word) for word in text.split()] for text in found.values()] == by_suffix_array(texts, length)


def prose(seed: int, words: int) -> list[str]:
    chance = random.Random(seed)
    return ["".join(chance.choices("abcdefghij", k=5)) for _ in range(words)]


def test_one_copy_of_a_passage_stays_and_the_rest_reads_on(tmp_path: Path) -> None:
    shared = "\n".join(" ".join(prose(n, 12)) for n in range(6))
    own = [" ".join(prose(100 + n, 80)) for n in range(3)]
    texts = [f"{own[0]}\n\n{shared}\n\nThe end.", f"{shared}\n\n{own[1]}", own[2]]
    found = dropped(corpus(tmp_path / "corpus", texts), tmp_path / "out", minimum_tokens=50)
    assert found["d000"] == texts[0]
    assert found["d001"] == own[1]
    assert found["d002"] == own[2]
    step = read_json(tmp_path / "out" / "stats.json")["funnel"][-1]
    assert (step["step"], step["documents"], step["documents_cut"], step["tokens_cut"]) == ("exact", 3, 1, 72)
    assert step["characters"] == sum(map(len, found.values()))


def test_a_document_that_repeats_itself_keeps_every_stretch_once(tmp_path: Path) -> None:
    turn = " ".join(prose(1, 60))
    found = dropped(corpus(tmp_path / "corpus", [f"{turn} {turn} {turn}"]), tmp_path / "out")
    # The stretches across the seam stand once too, so that 49 words of the second turn stay.
    assert found["d000"].split() == (turn.split() * 2)[:109]


def test_letters_and_case_count_and_code_can_be_left_alone(tmp_path: Path) -> None:
    text = " ".join(prose(1, 60))
    made = corpus(tmp_path / "corpus", [text, text.upper(), text], ["general", "general", "code"])
    found = dropped(made, tmp_path / "out", exempt_domains=["code"])
    assert found == {"d000": text, "d001": text.upper(), "d002": text}


def test_documents_of_which_little_is_left_go_with_a_reason(tmp_path: Path) -> None:
    text = " ".join(prose(1, 60))
    made = corpus(tmp_path / "corpus", [text, f"{text} and few words"])
    line = ["exact-dedup", str(made), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    (row,) = pq.read_table(tmp_path / "out" / "rejects").to_pylist()
    assert (row["id"], row["rule"]) == ("d001", "exact")
    assert row["text"] == f"{text} and few words"
    assert "60 tokens cut from 1 documents" in result.output
    again = CliRunner().invoke(app, [*line, "--set", "minimum_tokens=1"])
    assert again.exit_code == 2
    assert CliRunner().invoke(app, ["exact-dedup", str(tmp_path), "--out", str(tmp_path / "x")]).exit_code == 2


def test_short_documents_and_none_of_repeats() -> None:
    assert cut_mask(np.array([1, 1], dtype=np.uint8), 3).tolist() == [False, False]
    assert without_tokens("  a b\n\nc", np.array([False, True, False])) == "  a c"
    assert without_tokens("a b\n", np.array([True, True])) == ""
