"""Planted leaks are found however they are copied, what only looks alike stays, and the report counts both."""

import csv
import gzip
import io
import json
import random
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from herd.cli import app
from herd.corpus.decontaminate import DecontaminateConfig, Detector, decontaminate, load_items
from herd.corpus.documents import REASONS, DocumentWriter, document_schema
from herd.foundation.errors import HerdError
from herd.foundation.files import read_jsonl, write_json
from herd.foundation.progress import Progress

CONFIG = DecontaminateConfig()
VOCABULARY = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"]


def _sentence(seed: int, words: int = 24) -> str:
    return " ".join(random.Random(seed).choices(VOCABULARY, k=words))


def _rewrap(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 17))


def _hyphenate(text: str) -> str:
    words = text.split()
    words[5] = f"{words[5][:2]}-\n{words[5][2:]}"
    return " ".join(words)


DISGUISES = {
    "plain": str,
    "re-wrapped": _rewrap,
    "upper case": str.upper,
    "tags": lambda text: " ".join(
        f"<em class='x'>{word}</em>" if n % 3 else word for n, word in enumerate(text.split())
    ),
    "markdown": lambda text: " ".join(
        f"**{word}**" if n % 4 else f"[{word}](http://a.b/c)" for n, word in enumerate(text.split())
    ),
    "punctuation": lambda text: ", ".join(text.split()),
    "entities": lambda text: text.replace(" ", "&nbsp;"),
    "hyphens": _hyphenate,
    "half of it": lambda text: " ".join(text.split()[:12]),
}


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    _write(tmp_path / "alpha.jsonl", [{"id": f"a{n}", "question": _sentence(n), "answer": "42"} for n in range(20)])
    _write(tmp_path / "beta.jsonl", [{"messages": [{"role": "user", "content": _sentence(100 + n)}]} for n in range(5)])
    return Detector(load_items(tmp_path, CONFIG), CONFIG)


@pytest.mark.parametrize("disguise", DISGUISES)
def test_planted_leaks_are_found(detector: Detector, disguise: str) -> None:
    found = 0
    for number in range(20):
        leak = DISGUISES[disguise](_sentence(number))
        text = f"{_sentence(500 + number, 60)}\n\n{leak}\n\n{_sentence(900 + number, 60)}"
        found += detector.matches(text) == {"alpha"}
    assert found == 20


def test_innocent_documents_stay(detector: Detector) -> None:
    for number in range(50):
        seven = " ".join(_sentence(number % 20).split()[:7])
        text = f"{_sentence(2000 + number, 80)} {seven} {_sentence(number, 5)[::-1]}"
        assert detector.clean(text) == (text, None)
    assert all(row["found"] == row["documents"] == 0 for row in detector.report().values())


@pytest.mark.parametrize("disguise", [name for name in DISGUISES if name != "hyphens"])
def test_only_the_block_of_a_leak_is_cut(detector: Detector, disguise: str) -> None:
    before, after = _sentence(501, 60), _sentence(901, 60)
    text, reason = detector.clean(f"{before}\n\n{DISGUISES[disguise](_sentence(3))}\n\n{after}")
    assert reason is None
    assert before in text
    assert after in text
    assert not detector.matches(text)


def test_a_page_that_is_mostly_leak_goes_whole(detector: Detector) -> None:
    text, reason = detector.clean(f"{_sentence(3)}\n\n{_sentence(100)}\n\nand so on")
    assert text is None
    assert reason == "shares 8 words with alpha, beta"
    report = detector.report()
    assert report["alpha"] == {
        "items": 40,
        "too_short": 20,
        "found": 1,
        "contaminated": 1,
        "documents": 1,
        "characters": pytest.approx(len(_sentence(3)), abs=200),
    }
    assert report["beta"]["found"] == 1


def test_contamination_is_a_share_of_the_words(detector: Detector) -> None:
    detector.clean(f"{_sentence(501, 60)} {' '.join(_sentence(3).split()[:9])}")
    report = detector.report()["alpha"]
    assert (report["found"], report["contaminated"]) == (1, 0)


def test_documents_go_whole_when_asked(tmp_path: Path) -> None:
    path = _write(tmp_path / "alpha.jsonl", [{"text": _sentence(1)}])
    config = DecontaminateConfig(action="document")
    text, reason = Detector(load_items(path, config), config).clean(f"{_sentence(2, 400)}\n\n{_sentence(1)}")
    assert text is None
    assert "alpha" in reason


def test_rows_without_text_and_empty_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match="no evaluation texts"):
        load_items(tmp_path, CONFIG)
    path = _write(tmp_path / "alpha.jsonl", [{"text": "a b"}, {"label": 3}])
    with pytest.raises(HerdError, match=r"alpha\.jsonl, row 2: has no text"):
        load_items(path, CONFIG)


def test_the_stage_cuts_training_and_leaves_held_out_documents(tmp_path: Path) -> None:
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    out.mkdir()
    leak = _sentence(1)
    rows = {
        "documents": [("a", f"{_sentence(7, 60)}\n\n{leak}"), ("b", leak), ("c", _sentence(9, 60))],
        "heldout": [("d", leak)],
        "rejects": [("e", "short")],
    }
    for name, texts in rows.items():
        with DocumentWriter(corpus / name, document_schema((), REASONS if name == "rejects" else ())) as writer:
            for identifier, text in texts:
                writer.add({"id": identifier, "text": text})
    characters = sum(len(text) for name in ("documents", "heldout") for _, text in rows[name])
    write_json(
        corpus / "stats.json", {"funnel": [{"step": "all", "documents": 4, "characters": characters, "heldout": 1}]}
    )
    decontaminate(CONFIG, corpus, _write(tmp_path / "gold.jsonl", [{"text": leak}]), out, Progress.silent())
    tables = {name: pq.read_table(out / name).to_pylist() for name in rows}
    assert [(row["id"], row["text"]) for row in tables["documents"]] == [
        ("a", _sentence(7, 60)),
        ("c", _sentence(9, 60)),
    ]
    assert [row["text"] for row in tables["heldout"]] == [leak]
    assert [(row["id"], row["rule"]) for row in tables["rejects"]] == [("e", None), ("b", "decontaminate")]
    last = json.loads((out / "stats.json").read_text())["funnel"][-1]
    assert last["documents"] == 3
    assert last["characters"] == sum(len(row["text"]) for name in ("documents", "heldout") for row in tables[name])


FORMATS = {
    "jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    "jsonl.gz": lambda rows: gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()),
    "json": lambda rows: json.dumps({"version": 1, "data": rows}).encode(),
    "csv": lambda rows: _csv(rows, ","),
    "tsv": lambda rows: _csv(rows, "\t"),
    "parquet": lambda rows: _parquet(rows),
    "txt": lambda rows: "\n\n".join(row["passage"] for row in rows).encode(),
}


def _csv(rows: list[dict[str, Any]], separator: str) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0], delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_any_kind_of_file_with_any_columns(tmp_path: Path, form: str) -> None:
    rows = [{"passage": _sentence(n), "label": "yes"} for n in range(4)]
    (tmp_path / "sets" / "deep").mkdir(parents=True)
    (tmp_path / "sets" / "deep" / f"exam.{form}").write_bytes(FORMATS[form](rows))
    (tmp_path / "sets" / "readme.rst").write_text("no set")
    detector = Detector(load_items([tmp_path / "sets"], CONFIG), CONFIG)
    assert detector.matches(_rewrap(_sentence(2).upper())) == {"deep/exam"}
    assert [row["share"] for row in detector.shares()] == [1.0]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.parquet", b"PAR1 no"),
        ("a.json", b"{"),
        ("a.jsonl.gz", b"\x1f\x8b\x08"),
        ("a.csv", b"\xff\xfe\xff"),
        ("a.txt", b""),
    ],
)
def test_broken_sets_are_named(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    if data:
        with pytest.raises(HerdError, match=name):
            load_items(tmp_path / name, CONFIG)
    else:
        assert load_items(tmp_path / name, CONFIG) == []


def test_the_verb_reports_each_set_and_names_what_it_found(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    for name in ("documents", "heldout", "rejects"):
        with DocumentWriter(corpus / name, document_schema((), REASONS if name == "rejects" else ())) as writer:
            if name == "documents":
                writer.add({"id": "a", "text": f"{_sentence(7, 60)}\n\n{_rewrap(_sentence(1))}"})
    write_json(corpus / "stats.json", {"funnel": [{"step": "all", "documents": 1, "characters": 0, "heldout": 0}]})
    gold = _write(tmp_path / "gold.jsonl", [{"id": n, "question": _sentence(n)} for n in range(3)])
    (tmp_path / "notes.txt").write_text(_sentence(50))
    line = ["decontaminate", *map(str, (corpus, gold, tmp_path / "notes.txt")), "--out", str(tmp_path / "clean")]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    assert [row.split()[:6] for row in result.output.splitlines()[-2:]] == [
        ["gold", "3", "0", "1", "1", "1"], ["notes", "1", "0", "0", "0", "0"],
    ]  # fmt: skip
    (found,) = read_jsonl(tmp_path / "clean" / "contamination.jsonl")
    assert (found["benchmark"], found["item"], found["contaminated"]) == ("gold", "1", True)
    assert pq.read_table(tmp_path / "clean" / "documents")["text"].to_pylist() == [_sentence(7, 60)]
    assert CliRunner().invoke(app, [*line[:2], str(tmp_path / "none"), *line[-2:]]).exit_code == 2
