"""The whole of curation on pages whose fate is known, and its promises: sums, determinism, partitions, plain errors."""

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from herd.corpus import curate as module
from herd.corpus import portions
from herd.corpus.curate import CurateConfig, curate
from herd.corpus.pages import Page, PageWriter
from herd.corpus.portions import begin
from herd.corpus.prepare import Portion, Tally, prepare_portion
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress

Tables = dict[str, list[dict[str, Any]]]

_SYLLABLES = ("ba", "cor", "del", "fin", "gar", "lo", "mer", "nis", "por", "ran", "sel", "tur", "vin", "wes")
WORDS = tuple(f"{one}{two}{three}" for one in _SYLLABLES for two in _SYLLABLES for three in ("", "t", "ly"))
SMALL = ("the", "of", "and", "in", "to", "with", "that", "is", "for", "was")


def _prose(seed: int, sentences: int = 14) -> str:
    chance = random.Random(seed)
    lines = []
    for _ in range(sentences):
        words = [chance.choice(SMALL if chance.random() < 0.4 else WORDS) for _ in range(14)]
        lines.append(" ".join(words).capitalize() + ".")
    return " ".join(lines)


def _page(name: str, content: str, kind: str = "text", date: str | None = None) -> Page:
    return Page(f"https://example.org/{name}", "web", kind, content, date=date, title=name)


GERMAN = (
    "Der Fluss entspringt in den Bergen und fließt durch die Stadt, bevor er nach vielen Kilometern das Meer erreicht. "
    "An seinen Ufern stehen alte Mühlen, die von Webern gebaut wurden und in denen heute Familien wohnen. Im Frühling "
    "steigt das Wasser, und den Kindern wird gesagt, dass sie nicht auf der steinernen Brücke spielen sollen."
)
CODE = "import os\n\n" + "\n".join(
    f"def step_{n}(path):\n    return os.path.join(path, 'step', str({n}))\n" for n in range(12)
)
LEAK = "how many wooden crates did the third harbour master count before the winter storm began"


def some_pages() -> list[Page]:
    notice = "We use cookies on this site, and you can read all about it below"
    pages = [_page(f"p{n}", f"{notice}\n\n{_prose(n)}") for n in range(40)]
    pages += [_page("p0", f"{notice}\n\n{_prose(900)}", date="2020-01-01")]
    pages += [_page("copy", f"{notice}\n\n{_prose(3)} And that is all.")]
    pages += [_page("short", "Nothing much to say here.")]
    pages += [_page("mail", f"{_prose(50)} Write to jane@firm.org.")]
    pages += [_page("german", GERMAN)]
    pages += [_page("code", CODE, "code")]
    pages += [_page("leak", f"{_prose(60)}\n\nQuestion: {LEAK.upper()}\n\n{_prose(61)}")]
    pages += [_page("spam", " ".join(["buy cheap watches of the and now"] * 40))]
    pages += [
        _page(
            "html",
            f"<html><body><article><h1>Title</h1><p>{_prose(62)}</p><p>{_prose(63)}</p></article></body></html>",
            "html",
        )
    ]
    return pages


def artifact(directory: Path, pages: list[Page]) -> Path:
    writer = PageWriter(directory / "pages")
    for page in pages:
        writer.add(page)
    writer.close()
    return directory


def _exam(directory: Path) -> Path:
    texts = directory / "exam.jsonl"
    texts.write_text(json.dumps({"question": LEAK}) + "\n")
    return texts


def _run(directory: Path, pages: list[Page], config: CurateConfig | None = None) -> Tables:
    out = directory / "corpus"
    out.mkdir(parents=True)
    curate(config or CurateConfig(workers=1), artifact(directory, pages), out, Progress.silent(), _exam(directory))
    tables = {name: pq.read_table(out / name).to_pylist() for name in ("documents", "heldout", "rejects")}
    return tables | {"stats": [json.loads((out / "stats.json").read_text())]}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return _run(tmp_path_factory.mktemp("curate"), some_pages())


def _fate(result: Tables, name: str) -> tuple[list[str], list[dict[str, Any]]]:
    url = f"https://example.org/{name}"
    return [row["rule"] for row in result["rejects"] if row["url"] == url], [
        row for table in ("documents", "heldout") for row in result[table] if row["url"] == url
    ]


@pytest.mark.parametrize(("name", "rule"), [("short", "heuristics"), ("spam", "heuristics"), ("p0", "url")])
def test_rejects_say_why(result: Tables, name: str, rule: str) -> None:
    rejected, kept = _fate(result, name)
    assert rejected == [rule]
    assert len(kept) == (name == "p0")


def test_one_of_two_near_duplicates_stays(result: Tables) -> None:
    (one, kept_one), (other, kept_other) = _fate(result, "copy"), _fate(result, "p3")
    assert one + other == ["near_duplicates"]
    assert len(kept_one) + len(kept_other) == 1


def test_personal_data_is_gone_and_counted(result: Tables) -> None:
    _, (row,) = _fate(result, "mail")
    assert "[EMAIL]" in row["text"]
    assert "jane" not in row["text"]
    assert row["private"] == 1
    assert result["stats"][0]["private"] == {"EMAIL": 1}


def test_domains_and_languages(result: Tables) -> None:
    _, (german,) = _fate(result, "german")
    _, (code,) = _fate(result, "code")
    assert (german["domain"], german["language"]) == ("multilingual", "de")
    assert (code["domain"], code["language"], code["text"]) == ("code", None, CODE)


def test_the_notice_stays_once(result: Tables) -> None:
    texts = [row["text"] for table in ("documents", "heldout") for row in result[table]]
    assert sum("cookies" in text for text in texts) == 1
    assert result["stats"][0]["funnel"][-2]["lines_cut"] >= 38


def test_the_leak_is_cut_and_its_page_stays(result: Tables) -> None:
    _, (row,) = _fate(result, "leak")
    assert "QUESTION" not in row["text"].upper()
    assert row["text"].startswith(_prose(60)[:40])
    assert result["stats"][0]["decontamination"]["exam"]["found"] == 1


def test_every_page_is_kept_or_rejected_once(result: Tables) -> None:
    funnel = result["stats"][0]["funnel"]
    assert [step["step"] for step in funnel] == [
        "pages", "url", "extract", "privacy", "language", "heuristics", "divergence", "near_duplicates", "quality",
        "lines", "decontaminate",
    ]  # fmt: skip
    for before, step in itertools.pairwise(funnel):
        assert before["documents"] == step["documents"] + sum(step["removed"].values())
    kept = result["documents"] + result["heldout"]
    assert len(kept) == funnel[-1]["documents"]
    assert sum(len(row["text"]) for row in kept) == funnel[-1]["characters"]
    assert sorted(row["id"] for row in kept + result["rejects"]) == sorted(page.id for page in some_pages())
    assert all(row["reason"] for row in result["rejects"])


def test_documents_carry_values_weights_and_scores(result: Tables) -> None:
    for row in result["documents"] + result["heldout"]:
        assert row["words"] > 30
        assert row["duplicate_5gram"] is not None
        assert row["divergence"] is not None
        assert 0 <= row["quality"] <= 1
    weights = {row["domain"]: row["weight"] for row in result["documents"]}
    assert weights["general"] > 0
    assert {row["weight"] for row in result["heldout"]} == {1.0}


def test_processes_partitions_and_portions_change_nothing(
    result: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PORTION_CHARACTERS", 20_000)
    monkeypatch.setattr(module, "_CHARACTERS_WORTH_PROCESSES", 1)
    defaults = CurateConfig(workers=2)
    config = defaults.model_copy(update={
        "dedup": defaults.dedup.model_copy(update={"partitions": 3}),
        "lines": defaults.lines.model_copy(update={"partitions": 5}),
    })  # fmt: skip
    again = _run(tmp_path, some_pages(), config)
    for name in ("documents", "heldout"):
        assert again[name] == result[name]
    assert {row["id"]: row["reason"] for row in again["rejects"]} == {
        row["id"]: row["reason"] for row in result["rejects"]
    }


def test_an_interrupted_run_is_started_again(tmp_path: Path, result: Tables) -> None:
    stale = tmp_path / "corpus" / "work"
    (tmp_path / "corpus" / "documents").mkdir(parents=True)
    (tmp_path / "corpus" / "documents" / "00007.parquet").write_text("half")
    stale.mkdir()
    (stale / "documents-00099.parquet").write_text("half")
    curate(CurateConfig(workers=1), artifact(tmp_path, some_pages()), tmp_path / "corpus", Progress.silent())
    assert len(pq.read_table(tmp_path / "corpus" / "documents")) == len(result["documents"])
    assert not stale.exists()


def test_a_killed_run_prepares_again_only_what_is_missing(
    tmp_path: Path, result: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PORTION_CHARACTERS", 20_000)
    pages, out, done = artifact(tmp_path, some_pages()), tmp_path / "corpus", []

    def count(portion: Portion, *rest: object) -> Tally:
        done.append(portion.number)
        if len(done) == 2:
            raise KeyboardInterrupt
        return prepare_portion(portion, *rest)

    monkeypatch.setattr(portions, "prepare_portion", count)
    with pytest.raises(KeyboardInterrupt):
        curate(CurateConfig(workers=1), pages, out, Progress.silent(), _exam(tmp_path))
    (out / "work" / "documents-00001.parquet").write_text("half")
    curate(CurateConfig(workers=1), pages, out, Progress.silent(), _exam(tmp_path))
    assert done[:3] == [0, 1, 1]
    assert 0 not in done[1:]
    for name in ("documents", "heldout"):
        assert pq.read_table(out / name).to_pylist() == result[name]
    funnels = [json.loads((out / "stats.json").read_text())["funnel"], result["stats"][0]["funnel"]]
    for step in itertools.chain(*funnels):
        del step["seconds"]
    assert funnels[0] == funnels[1]


def test_other_settings_prepare_everything_anew(tmp_path: Path) -> None:
    begin(tmp_path / "work", "one")
    (tmp_path / "work" / "tally-00000.json").write_text("{}")
    (tmp_path / "work" / "signatures.npy").write_text("")
    begin(tmp_path / "work", "one")
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["plan.json", "tally-00000.json"]
    begin(tmp_path / "work", "other")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["plan.json"]


def test_an_empty_corpus_and_a_broken_shard_are_named(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(HerdError, match="holds no pages"):
        curate(CurateConfig(), tmp_path, out, Progress.silent())
    pages = artifact(tmp_path / "short", [_page("short", "Nothing much.")])
    with pytest.raises(HerdError, match=r"no document is left .* went for: words below 30 \(1\)"):
        curate(CurateConfig(), pages, out, Progress.silent())
    (pages / "pages" / "00001.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(HerdError, match=r"00001\.parquet: not readable"):
        curate(CurateConfig(), pages, out, Progress.silent())
