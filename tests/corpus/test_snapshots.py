"""A new snapshot against the indexes of earlier ones: the result of one run over all, whatever the partitions."""

import itertools
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herd.corpus.curate import CurateConfig, curate
from herd.corpus.dedup import DedupConfig, families
from herd.corpus.engine import LocalEngine
from herd.corpus.index import Index, IndexWriter
from herd.corpus.lines import LineCounts, LinesConfig, frequent_lines
from herd.corpus.pages import Page
from herd.corpus.removal import TakeDownConfig, take_down
from herd.corpus.snapshots import Past
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from tests.corpus.test_curate import _prose, artifact

SMALL = DedupConfig(bands=8, rows=4)
Signed = tuple[list[np.ndarray], DedupConfig]


def _signatures(seed: int, count: int, crowd: int) -> np.ndarray:
    """Signatures around a few originals, some of them chains of small changes, ``crowd`` of them nearly the same."""
    chance = np.random.default_rng(seed)
    originals = chance.integers(0, 1 << 32, (max(count // 4, 1), SMALL.permutations), dtype=np.uint32)
    rows = originals[np.r_[np.zeros(crowd, dtype=int), chance.integers(0, len(originals), count)]]
    changed = chance.random(rows.shape) < chance.uniform(0, 0.35, (len(rows), 1))
    rows[changed] = chance.integers(0, 1 << 32, changed.sum(), dtype=np.uint32)
    return rows[chance.permutation(len(rows))]


def _write_index(corpus: Path, signatures: np.ndarray, name: str) -> Path:
    corpus.mkdir(parents=True)
    np.save(corpus / "all.npy", signatures)
    writer = IndexWriter(corpus, SMALL)
    writer.addresses([])
    writer.superseded([])
    ids = [f"{name}{row}" for row in range(len(signatures))]
    writer.documents(ids, ids, np.arange(len(ids)), corpus / "all.npy")
    writer.lines(LineCounts(LinesConfig(), len(ids), corpus / "lines"))
    writer.close()
    return corpus


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 40), min_size=2, max_size=4), st.sampled_from([0, 30, 120]))
def test_families_are_those_of_one_run_over_all(
    tmp_path_factory: pytest.TempPathFactory, seed: int, sizes: list[int], crowd: int
) -> None:
    place = tmp_path_factory.mktemp("snapshots")
    table = _signatures(seed, sum(sizes), crowd)
    edges = np.cumsum([crowd // 2, *sizes[:-1]])
    *earlier, new = np.split(table, edges)
    corpora = [_write_index(place / f"old{number}", part, f"{number}-") for number, part in enumerate(earlier)]
    np.save(place / "new.npy", new)
    expected, found = families(table, SMALL), {}
    first = len(table) - len(new)
    names = [name for number, part in enumerate(earlier) for name in (f"{number}-{row}" for row in range(len(part)))]
    for partitions in (1, 5):
        config = SMALL.model_copy(update={"partitions": partitions})
        past = Past.open(corpora, config)
        family, known = past.families(place / "new.npy", config, np.arange(len(new)), LocalEngine(1))
        found[partitions] = family.tolist(), known
        for row in range(len(new)):
            assert (row in known) == (expected[first + row] < first)
            if row in known:
                assert expected[names.index(known[row].id)] == expected[first + row]
        alone = [row for row in range(len(new)) if row not in known]
        for one, other in itertools.combinations(alone, 2):
            assert (family[one] == family[other]) == (expected[first + one] == expected[first + other])
    assert found[1] == found[5]
    shutil.rmtree(place)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=8),
    st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=8),
    st.sampled_from([1, 2, 7]),
)
def test_lines_are_counted_over_all_snapshots(
    tmp_path_factory: pytest.TempPathFactory, old: list[list[int]], new: list[list[int]], partitions: int
) -> None:
    place = tmp_path_factory.mktemp("lines")
    config = LinesConfig(maximum_documents=3, partitions=partitions)
    earlier = LineCounts(config.model_copy(update={"partitions": 3}), len(old), place / "old")
    for key, lines in enumerate(old, start=1):
        earlier.add(key, lines)
    counts = LineCounts(config, len(new), place / "new")
    for key, lines in enumerate(new, start=100):
        counts.add(key, lines)
    for _, keys, documents, _ in earlier.parts():
        counts.earlier(keys, documents.astype(np.uint32))
    both = Counter(line for lines in old + new for line in set(lines))
    (table,) = frequent_lines(counts)
    held, here = set(itertools.chain(*old)), set(itertools.chain(*new))
    assert set(table) == {line for line in here if both[line] > 3}
    for line, keeper in table.items():
        holders = [key for key, lines in enumerate(new, start=100) if line in lines]
        assert keeper == (0 if line in held else min(holders))
    shutil.rmtree(place)


NOTICE = "Every visitor of this site agrees to the rules of the house, which hang beside the door"


def _page(name: str, seed: int, date: str | None = None, end: str = "", notice: bool = False) -> Page:
    text = _prose(seed) + end
    return Page(f"https://example.org/{name}", "web", "text", f"{NOTICE}\n\n{text}" if notice else text, date=date)


def _old() -> list[Page]:
    pages = [_page(f"p{n}", n, "2024-01-01", notice=n < 5) for n in range(20)]
    return [*pages, _page("p3-again", 3, end=" And that is all."), _page("undated", 70)]


def _new() -> list[Page]:
    pages = [_page(f"q{n}", 100 + n, "2024-05-01", notice=n < 4) for n in range(20)]
    pages += [_page("q5-again", 105, end=" So it ends.")]
    pages += [_page("copy-of-p7", 7, end=" Copied with love.")]
    pages += [_page("p8", 200, "2024-05-01"), _page("p9", 201, "2023-05-01"), _page("undated", 202)]
    return [*pages, _page("copy-of-p8", 8, end=" The old one.")]


CONFIG = CurateConfig.model_validate({"workers": 1, "quality": {"drop": 0.0}})


def _curate(place: Path, pages: list[Page], against: tuple[Path, ...] = (), config: CurateConfig = CONFIG) -> Path:
    out = place / "corpus"
    out.mkdir(parents=True)
    curate(config, artifact(place, pages), out, Progress.silent(), against=against)
    return out


def _table(corpus: Path, *folders: str) -> dict[str, dict[str, Any]]:
    rows = [row for folder in folders for row in pq.read_table(corpus / folder).to_pylist()]
    return {row["id"]: row for row in rows}


def _of(corpus: Path, name: str) -> dict[str, Any]:
    found = [
        row for row in _table(corpus, "documents", "heldout", "rejects").values()
        if row["url"] == f"https://example.org/{name}"
    ]  # fmt: skip
    assert len(found) == 1
    return found[0]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _curate(tmp_path_factory.mktemp("first"), _old())


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory, first: Path) -> Path:
    return _curate(tmp_path_factory.mktemp("second"), _new(), (first,))


def test_the_new_part_is_that_of_one_run_over_both(tmp_path: Path, first: Path, second: Path) -> None:
    """Earlier pages come first in the one run, and its families are read with earlier documents as survivors."""
    both = _curate(tmp_path, _old() + _new())
    together = _table(both, "documents", "heldout", "rejects")
    parts = [json.loads(line) for line in (both / "families.jsonl").read_text().splitlines()]
    members = {name: {part["kept"], *part["copies"]} for part in parts for name in (part["kept"], *part["copies"])}
    old = {page.id for page in _old()}
    undated = _of(second, "undated")["id"]  # of equal dates the earlier page stays here, the smaller id in one run
    for name, row in _table(second, "documents", "heldout", "rejects").items():
        family = members.get(name, {name})
        if name == undated or together[name].get("rule") == "url":
            assert row["rule"] == "url"
        elif family & old:
            assert row["rule"] == "near_duplicates"
            assert any(other in row["reason"] for other in family & old)
        else:
            assert sum(other in _table(second, "documents", "heldout") for other in family) == 1


def test_reasons_name_the_earlier_document(first: Path, second: Path) -> None:
    kept = _of(first, "p7")["id"]
    assert _of(second, "copy-of-p7")["reason"] == f"a near-duplicate of an earlier snapshot stays: {kept} in corpus"
    assert _of(second, "p9")["reason"] == f"an earlier snapshot has this address: {_of(first, 'p9')['id']} in corpus"
    funnel = {step["step"]: step["removed"] for step in json.loads((second / "stats.json").read_text())["funnel"]}
    assert funnel["url"] == {"an earlier snapshot has this address": 2}
    assert funnel["near_duplicates"]["a near-duplicate of an earlier snapshot stays"] == 1
    assert {"kept": kept, "copies": [_of(second, "copy-of-p7")["id"]], "corpus": "corpus"} in [
        json.loads(line) for line in (second / "families.jsonl").read_text().splitlines()
    ]


def test_a_newer_page_takes_the_place_of_an_earlier_one(first: Path, second: Path) -> None:
    """What resembles only the page that gave way stays, since its text would be nowhere."""
    assert "rule" not in _of(second, "p8")
    assert "rule" not in _of(second, "copy-of-p8")
    rows = [json.loads(line) for line in (second / "index" / "superseded.jsonl").read_text().splitlines()]
    assert [(row["id"], row["by"]) for row in rows] == [(_of(first, "p8")["id"], _of(second, "p8")["id"])]


def test_a_line_is_frequent_by_both_and_kept_by_the_earlier(first: Path, second: Path) -> None:
    assert sum(NOTICE in row["text"] for row in _table(first, "documents", "heldout").values()) == 5
    assert not any(NOTICE in row["text"] for row in _table(second, "documents", "heldout").values())


def test_a_third_snapshot_knows_both(tmp_path: Path, first: Path, second: Path) -> None:
    pages = [_page("r", 300), _page("r7", 7, end=" Once more."), _page("r5", 105, end=" Yet again.")]
    pages += [_page("r8", 200, end=" Of the newer page."), _page("p8", 301, "2024-03-01")]
    third = _curate(tmp_path, pages, (first, second))
    assert "rule" not in _of(third, "r")
    kept = {name: _of(corpus, name)["id"] for corpus, name in ((first, "p7"), (second, "p8"))}
    assert kept["p7"] in _of(third, "r7")["reason"]
    assert kept["p8"] in _of(third, "r8")["reason"]
    assert kept["p8"] in _of(third, "p8")["reason"]
    assert _of(third, "r5")["rule"] == "near_duplicates"


def test_partitions_and_an_interruption_change_nothing(
    tmp_path: Path, first: Path, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    divided = {"dedup": CONFIG.dedup.model_copy(update={"partitions": 5}),
               "lines": CONFIG.lines.model_copy(update={"partitions": 3})}  # fmt: skip
    config, out = CONFIG.model_copy(update=divided), tmp_path / "corpus"
    out.mkdir()
    pages = artifact(tmp_path, _new())
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr("herd.corpus.dedup.Families.result", _die)
        curate(config, pages, out, Progress.silent(), against=(first,))
    curate(config, pages, out, Progress.silent(), against=(first,))
    for folder in ("documents", "heldout", "rejects"):
        assert _table(out, folder) == _table(second, folder)
    for name in ("documents.parquet", "addresses.parquet"):
        assert pq.read_table(out / "index" / name) == pq.read_table(second / "index" / name)
    assert (out / "index" / "signatures.npy").read_bytes() == (second / "index" / "signatures.npy").read_bytes()
    assert not (out / "work").exists()


def _die(*_: object) -> None:
    raise RuntimeError("killed")


def test_what_is_taken_down_leaves_the_index_too(tmp_path: Path, first: Path) -> None:
    gone, out = _of(first, "p7")["id"], tmp_path / "without"
    out.mkdir()
    take_down(TakeDownConfig(ids=(gone,)), first, out, Progress.silent())
    index, before = Index.open(out, DedupConfig()), Index.open(first, DedupConfig())
    assert index.documents == before.documents - 1
    left = [name for batch in index.ids() for name in batch["id"].to_pylist()]
    assert gone not in left
    assert not any(gone.encode() in path.read_bytes() for path in (out / "index").iterdir())
    place = [name for batch in before.ids() for name in batch["id"].to_pylist()].index(left[-1])
    assert np.load(index.signatures)[-1].tolist() == np.load(before.signatures)[place].tolist()
    again = _curate(tmp_path / "again", [_page("copy-of-p7", 7), _page("r", 300)], (out,))
    assert "rule" not in _of(again, "copy-of-p7")


def test_what_cannot_be_compared_is_named(tmp_path: Path, first: Path) -> None:
    with pytest.raises(HerdError, match="holds no index to compare with"):
        Past.open([tmp_path], DedupConfig())
    with pytest.raises(HerdError, match=r"signatures were made with shingle_words 3; set dedup alike"):
        Past.open([first], DedupConfig(shingle_words=5))
    broken = tmp_path / "broken"
    shutil.copytree(first, broken)
    signatures = broken / "index" / "signatures.npy"
    signatures.write_bytes(signatures.read_bytes()[:-4])
    with pytest.raises(HerdError, match="not readable as an index"):
        Past.open([broken], DedupConfig())
    (broken / "index" / "index.json").write_text('{"format": 1}')
    with pytest.raises(HerdError, match=r"index\.json: not an index of format 1"):
        Past.open([broken], DedupConfig())
    with pytest.raises(HerdError, match="earlier snapshots hold all that is left"):
        _curate(tmp_path / "same", [_page("copy", 7)], (first,))


def test_without_an_index_none_is_written(tmp_path: Path) -> None:
    out = _curate(tmp_path, _old()[:4], config=CONFIG.model_copy(update={"index": False}))
    assert not (out / "index").exists()
