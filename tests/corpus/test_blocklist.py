"""Block lists: what an entry covers, what is learnt and what is not, and that curation keeps to them."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from herd.cli import app
from herd.corpus.blocklist import Blocklist, LearnConfig, learn
from herd.corpus.curate import CurateConfig, curate
from herd.corpus.documents import REASONS, DocumentWriter, document_schema
from herd.corpus.pages import Page, PageWriter
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, read_jsonl
from herd.foundation.progress import Progress
from tests.corpus.test_what_if import prose

LIST = """# kept out
bad.org
0.0.0.0 ads.example.net   # as in a hosts file
https://forum.org/private/
www.Capital.COM
"""


def blocked(place: Path, text: str = LIST) -> Blocklist:
    (place / "list.txt").write_text(text)
    return Blocklist.read([str(place / "list.txt")])


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("https://bad.org/page", "its domain is blocked"),
        ("http://deep.below.bad.org:8080/x?y=1", "its domain is blocked"),
        ("HTTPS://BAD.ORG", "its domain is blocked"),
        ("//www.bad.org./x", "its domain is blocked"),
        ("https://user@bad.org/", "its domain is blocked"),
        ("https://notbad.org/", None),
        ("https://bad.org.uk/", None),
        ("https://good.net/?to=bad.org", None),
        ("https://ads.example.net/a", "its domain is blocked"),
        ("https://example.net/a", None),
        ("http://forum.org/private/7", "its address is blocked"),
        ("https://www.forum.org/private/", "its address is blocked"),
        ("https://forum.org/public", None),
        ("https://forum.org/Private/7", None),
        ("https://capital.com", "its domain is blocked"),
        ("", None),
        (None, None),
        ("http://[broken", None),
    ],
)
def test_what_an_entry_covers(tmp_path: Path, address: str | None, reason: str | None) -> None:
    assert blocked(tmp_path).reason(address) == reason


@given(
    st.lists(st.from_regex(r"[ab]{1,2}(\.[ab]{1,2}){0,2}\.org", fullmatch=True), max_size=4),
    st.from_regex(r"[ab]{1,2}(\.[ab]{1,2}){0,3}\.org", fullmatch=True),
)
def test_a_domain_covers_itself_and_all_below(domains: list[str], name: str) -> None:
    found = Blocklist(set(domains))
    wanted = any(name == domain or name.endswith(f".{domain}") for domain in domains)
    assert (found.reason(f"https://{name}/x") is not None) == wanted


@pytest.mark.parametrize("line", ["no domain at all", "localhost", "http://", "ex ample.org", "*.example.org"])
def test_a_line_that_names_nothing_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(HerdError, match=r"list.txt, line 2: neither a domain nor an address"):
        blocked(tmp_path, f"good.org\n{line}\n")


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["curate", str(tmp_path), "--out", "x", "--set", f"blocklists=[{tmp_path}/none]"])
    assert result.exit_code == 2
    assert "none: there is no such file (a block list)" in result.stderr


def corpus(place: Path) -> Path:
    """Sites with 40 pages each: adult ones with hits in half of them, one with a stray hit, one of addresses."""
    dirty, private = "porn sex nude " * 4, {"private": 5}
    with (
        DocumentWriter(place / "documents", document_schema(["dirty_words"])) as kept,
        DocumentWriter(place / "rejects", document_schema(["dirty_words"], REASONS)) as gone,
    ):
        for site in ("adult.org", "www.adult.org", "stray.org", "people.org", "plain.org"):
            for n in range(40):
                row = {"id": f"{site}{n}", "url": f"https://{site}/{n}", "text": prose(n, 60), "domain": "general"}
                hit = ("adult" in site and n % 2 == 0) or (site == "stray.org" and n == 0)
                if hit:
                    gone.add(row | {"text": dirty + row["text"], "rule": "language", "reason": "x", "domain": None})
                else:
                    kept.add(row | {"private": 0} | (private if site == "people.org" and n % 2 else {}))
        for n in range(3):
            gone.add({"id": f"few{n}", "url": f"https://few.org/{n}", "text": dirty, "rule": "x", "reason": "x"})
        gone.add({"id": "nothing", "url": "https://plain.org/none", "text": "", "rule": "extract", "reason": "x"})
    return place


def test_domains_with_a_high_share_of_hits_are_learnt(tmp_path: Path) -> None:
    made = corpus(tmp_path / "corpus")
    result = CliRunner().invoke(app, ["blocklist", str(made), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "1 adult and 1 private domains of 4 with enough pages" in result.output
    rows = {row["domain"]: row for row in read_jsonl(tmp_path / "out" / "domains.jsonl")}
    assert {name: row["blocked"] for name, row in rows.items() if row["blocked"]} == {
        "adult.org": ["adult"],
        "people.org": ["private"],
    }
    assert rows["adult.org"]["pages"] == 80
    assert rows["plain.org"]["pages"] == 40
    assert rows["few.org"]["adult"]["value"] == 1
    found = Blocklist.read([str(tmp_path / "out" / "blocked.txt")])
    assert found.domains == {"adult.org", "people.org"}
    assert read_json(tmp_path / "out" / "stats.json")["pages blocked"] == 120


def test_a_corpus_without_addresses_is_named(tmp_path: Path) -> None:
    with DocumentWriter(tmp_path / "corpus" / "documents", document_schema(())) as writer:
        writer.add({"id": "a", "url": "a.py", "text": "words"})
    with pytest.raises(HerdError, match="no document has an address with a host"):
        learn(LearnConfig(), [tmp_path / "corpus"], tmp_path / "out", Progress.silent())


def write_pages(folder: Path, sites: list[str]) -> None:
    """One page for each of ``sites``, beside the list that blocks some."""
    writer = PageWriter(folder / "pages" / "pages")
    for n, site in enumerate(sites):
        writer.add(Page(f"https://{site}.org/{n}", "web", "text", prose(n, 90)))
    writer.close()
    blocked(folder)


def test_curation_keeps_blocked_pages_out_and_says_why(tmp_path: Path) -> None:
    write_pages(tmp_path, ["good", "bad", "bad"] * 10)
    config = CurateConfig.model_validate(
        {"workers": 1, "quality": {"drop": 0}, "blocklists": [str(tmp_path / "list.txt")]}
    )
    (tmp_path / "out").mkdir()
    curate(config, tmp_path / "pages", tmp_path / "out", Progress.silent())
    rejects = pq.read_table(tmp_path / "out" / "rejects").to_pylist()
    assert {(row["rule"], row["reason"]) for row in rejects} == {("url", "its domain is blocked")}
    assert len(rejects) == 20
    step = read_json(tmp_path / "out" / "stats.json")["funnel"][1]
    assert (step["step"], step["documents"], step["removed"]) == ("url", 10, {"its domain is blocked": 20})


def test_a_changed_list_is_a_reason_to_run_again(tmp_path: Path) -> None:
    write_pages(tmp_path, ["good"] * 12)
    line = ["curate", str(tmp_path / "pages"), "--out", str(tmp_path / "out"), "--set", "quality.drop=0.0"]
    line += ["--set", f"blocklists=[{tmp_path}/list.txt]"]
    assert CliRunner().invoke(app, line).exit_code == 0
    assert "nothing to do" in CliRunner().invoke(app, line).output
    blocked(tmp_path, "other.org\n")
    again = CliRunner().invoke(app, line)
    assert again.exit_code == 2
    assert "list.txt changed" in again.stderr
