"""Take-down and export: what is named is nowhere afterwards, the rest is as it was, the sums hold."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from herd.cli import app
from herd.corpus.documents import REASONS, DocumentWriter, document_schema
from herd.corpus.pages import Page, PageWriter
from herd.corpus.removal import ExportConfig, TakeDownConfig, export, take_down
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, read_jsonl, write_json
from herd.foundation.progress import Progress

SECRET = "the text that somebody wants gone"
LICENSES = ("MIT", "CC BY 4.0", "CC BY-SA 3.0", None)


def row(n: int, folder: str) -> dict[str, Any]:
    return {
        "id": f"{folder}{n}",
        "text": f"{SECRET} {n}",
        "url": f"https://site{n % 5}.org/{folder}/{n}",
        "source": f"crawl-{n % 3}",
        "license": LICENSES[n % 4],
    }


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two shards of ten documents, a shard of held-out and one of rejected ones, and passages."""
    place, schema = tmp_path / "corpus", document_schema(())
    for shard in range(2):
        with DocumentWriter(place / "documents", schema) as writer:
            for n in range(10):
                writer.add(row(10 * shard + n, "documents"))
        (place / "documents" / "00000.parquet").rename(place / f"{shard}.parquet")
    for shard in range(2):
        (place / f"{shard}.parquet").rename(place / "documents" / f"{shard:05d}.parquet")
    for folder in ("heldout", "rejects"):
        with DocumentWriter(place / folder, document_schema((), REASONS)) as writer:
            for n in range(5):
                writer.add(row(n, folder))
    pq.write_table(
        pa.table({"document_id": ["documents3", "documents4"], "text": ["a", "b"]}), place / "passages.parquet"
    )
    write_json(place / "stats.json", {"funnel": [{"step": "x", "documents": 25, "characters": 900, "heldout": 5}]})
    return place


def taken(corpus: Path, out: Path, **config: Any) -> dict[str, Any]:
    take_down(TakeDownConfig.model_validate(config), corpus, out, Progress.silent())
    stats: dict[str, Any] = read_json(out / "stats.json")
    return stats


def ids(place: Path) -> set[str]:
    return {name for path in place.glob("*/*.parquet") for name in pq.read_table(path)["id"].to_pylist()}


@pytest.mark.parametrize(
    ("config", "gone"),
    [
        ({"ids": ["documents3"]}, lambda one: one["id"] == "documents3"),
        ({"urls": ["http://www.site3.org/documents/3/"]}, lambda one: one["id"] == "documents3"),
        ({"domains": ["site3.org"]}, lambda one: "site3.org" in one["url"]),
        ({"domains": ["site1.org", "site2.org"]}, lambda one: one["url"][12:14] in ("1.", "2.")),
        ({"sources": ["crawl-1"]}, lambda one: one["source"] == "crawl-1"),
        ({"licenses": ["cc by-sa*"]}, lambda one: one["license"] == "CC BY-SA 3.0"),
        (
            {"ids": ["rejects2"], "sources": ["crawl-0"]},
            lambda one: one["source"] == "crawl-0" or one["id"] == "rejects2",
        ),
    ],
)
def test_what_is_named_is_nowhere_and_the_rest_is_there(corpus: Path, tmp_path: Path, config: Any, gone: Any) -> None:
    everything = [
        row(n, folder) for folder, count in (("documents", 20), ("heldout", 5), ("rejects", 5)) for n in range(count)
    ]
    stats = taken(corpus, tmp_path / "out", **config)
    assert ids(tmp_path / "out") == {one["id"] for one in everything if not gone(one)}
    names = [one["id"] for one in read_jsonl(tmp_path / "out" / "removed.jsonl")]
    assert sorted(names) == sorted(one["id"] for one in everything if gone(one))
    assert SECRET not in (tmp_path / "out" / "removed.jsonl").read_text()
    counted = [one for one in everything if gone(one) and not one["id"].startswith("rejects")]
    last = stats["funnel"][-1]
    assert last["documents"] == 25 - len(counted)
    assert last["characters"] == 900 - sum(len(one["text"]) for one in counted)
    passages = pq.read_table(tmp_path / "out" / "passages.parquet")["document_id"].to_pylist()
    assert set(passages) == {"documents3", "documents4"} - set(names)


def test_only_the_shards_that_held_it_change(corpus: Path, tmp_path: Path) -> None:
    stats = taken(corpus, tmp_path / "out", ids=["documents13", "nobody"])
    assert stats["take-down"]["shards"] == ["documents/00001.parquet"]
    assert stats["take-down"]["not found"] == ["id nobody"]
    for name in ("documents/00000.parquet", "heldout/00000.parquet", "rejects/00000.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (corpus / name).read_bytes()


def test_pages_can_be_taken_down_too(tmp_path: Path) -> None:
    writer = PageWriter(tmp_path / "pages" / "pages")
    for n in range(6):
        writer.add(Page(f"https://site{n % 2}.org/{n}", "web", "text", SECRET, license="MIT"))
    writer.close()
    write_json(tmp_path / "pages" / "stats.json", {"pages": 6})
    taken(tmp_path / "pages", tmp_path / "out", domains=["site0.org"])
    left = pq.read_table(tmp_path / "out" / "pages")["url"].to_pylist()
    assert left == [f"https://site1.org/{n}" for n in (1, 3, 5)]


@pytest.mark.parametrize(
    ("licenses", "unknown", "left"),
    [
        (["mit"], "drop", {"MIT"}),
        (["CC BY*", "MIT"], "drop", {*LICENSES[:3]}),
        (["CC BY 4.0"], "keep", {"CC BY 4.0", None}),
    ],
)
def test_export_keeps_licences(
    corpus: Path, tmp_path: Path, licenses: list[str], unknown: str, left: set[str | None]
) -> None:
    config = ExportConfig.model_validate({"licenses": licenses, "unknown": unknown})
    export(config, corpus, tmp_path / "out", Progress.silent())
    found = pq.read_table(tmp_path / "out" / "documents")["license"].to_pylist()
    assert set(found) == left
    assert len(found) == 5 * len(left)
    assert sum(read_json(tmp_path / "out" / "stats.json")["export"]["licenses"].values()) == len(found)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"ids": ["nobody"]}, "holds nothing of what should go"),
        ({"domains": ["nonsense"]}, "nonsense: not a domain"),
        ({"sources": ["crawl-0", "crawl-1", "crawl-2"]}, "nothing is left after take-down"),
    ],
)
def test_mistakes_are_named(corpus: Path, tmp_path: Path, config: Any, sentence: str) -> None:
    with pytest.raises(HerdError, match=sentence):
        taken(corpus, tmp_path / "out", **config)


def test_the_verbs_tell_what_is_made_from_the_corpus(corpus: Path, tmp_path: Path) -> None:
    shell = CliRunner()
    first = shell.invoke(app, ["take-down", str(corpus), "--id", "documents1", "--out", str(tmp_path / "one")])
    assert first.exit_code == 0, first.output
    assert "made from" not in first.output
    second = shell.invoke(app, ["export", str(tmp_path / "one"), "--license", "MIT", "--out", str(tmp_path / "open")])
    assert second.exit_code == 0, second.output
    line = [
        "take-down",
        str(tmp_path / "one"),
        "--url",
        "https://site3.org/documents/3",
        "--out",
        str(tmp_path / "two"),
    ]
    third = shell.invoke(app, line)
    assert third.exit_code == 0, third.output
    assert f"made from {tmp_path / 'one'} and still holding it: open" in third.output.replace("\n", "")
    assert "documents/00000.parquet" in third.output
    nothing = shell.invoke(app, ["take-down", str(corpus), "--out", str(tmp_path / "none")])
    assert nothing.exit_code == 2
    assert "nothing is named that should go" in nothing.stderr
