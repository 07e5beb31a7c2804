"""Archives as the web has them: real ones, broken ones, and ones cut at every place."""

import gzip
import itertools
import random
import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from herd.corpus.collect import PagesConfig, collect
from herd.corpus.pages import Page, load_pages
from herd.corpus.sources import Damage, WarcSource, read_pages
from herd.foundation.errors import HerdError
from herd.foundation.files import read_jsonl
from herd.foundation.progress import Progress

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "warc"


def read(path: Path) -> tuple[list[Page], list[tuple[str, str]]]:
    skipped: list[tuple[str, str]] = []
    pages = list(read_pages(WarcSource(paths=(str(path),)), lambda name, reason: skipped.append((name, reason))))
    return pages, skipped


def record(kind: str, url: str, block: bytes, extra: bytes = b"") -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2020-02-03T04:05:06Z\r\n"
        f"WARC-Record-ID: <urn:uuid:12345678-1234-1234-1234-{len(url):012d}>\r\n"
        f"Content-Type: application/http; msgtype={kind}\r\n"
        f"Content-Length: {len(block)}\r\n"
    )
    return head.encode() + extra + b"\r\n" + block + b"\r\n\r\n"


def response(body: bytes, kind: str = "text/html; charset=utf-8", status: str = "200 OK", extra: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{extra}\r\n".encode() + body


@pytest.fixture
def archive() -> bytes:
    chunked = b"5\r\n<p>ab\r\n6\r\nc</p>\n\r\n0\r\n\r\n"
    return b"".join(
        [
            record("warcinfo", "", b"software: x\r\n"),
            record("request", "http://a/", b"GET / HTTP/1.1\r\n\r\n"),
            record("response", "http://a/", response("<p>größer</p>".encode())),
            record("response", "http://b/", response(b"<p>caf\xe9</p>", "text/html; charset=ISO-8859-1")),
            record("response", "http://c/", response(chunked, extra="Transfer-Encoding: chunked\r\n")),
            record(
                "response", "http://d/", response(gzip.compress(b"<p>packed</p>"), extra="Content-Encoding: gzip\r\n")
            ),
            record("response", "http://e/", response(b"\x89PNG", "image/png")),
            record("response", "http://f/", response(b"<p>gone</p>", status="404 Not Found")),
            record("revisit", "http://a/", b"HTTP/1.1 200 OK\r\n\r\n"),
            record("response", "http://g/", response(b"<p>cut</p>"), b"WARC-Truncated: length\r\n"),
            record(
                "response",
                "http://h/",
                response(b"<meta charset=shift_jis><p>\x83\x65\x83\x58\x83\x67</p>", "text/html"),
            ),
        ]
    )


def test_what_counts_as_a_page(tmp_path: Path, archive: bytes) -> None:
    (tmp_path / "a.warc").write_bytes(archive)
    pages, skipped = read(tmp_path / "a.warc")
    assert {page.url: page.content.strip() for page in pages} == {
        "http://a/": "<p>größer</p>",
        "http://b/": "<p>café</p>",
        "http://c/": "<p>abc</p>",
        "http://d/": "<p>packed</p>",
        "http://h/": "<meta charset=shift_jis><p>テスト</p>",
    }
    assert {page.date for page in pages} == {"2020-02-03"}
    assert skipped == [("http://g/", "the record is truncated")]


@pytest.mark.parametrize("packed", [False, True])
def test_cut_anywhere_it_gives_what_stands_before_the_cut(tmp_path: Path, archive: bytes, packed: bool) -> None:
    parts = [part for part in archive.split(b"WARC/1.0\r\n") if part]
    members = [b"WARC/1.0\r\n" + part for part in parts]
    stored = [gzip.compress(member, mtime=0) if packed else member for member in members]
    whole = b"".join(stored)
    (tmp_path / "whole.warc").write_bytes(whole)
    complete = [page.url for page in read(tmp_path / "whole.warc")[0]]
    reported = 0
    for cut in range(len(stored[0]), len(whole), 97):
        (tmp_path / "cut.warc").write_bytes(whole[:cut])
        pages, skipped = read(tmp_path / "cut.warc")
        urls = [page.url for page in pages]
        assert urls == complete[: len(urls)]
        reported += bool(skipped)
    assert reported > 5


@pytest.mark.parametrize(
    "junk", [b"", b"this is no archive\n" * 50, b"\x1f\x8b\x08junk" * 20, b"PK\x03\x04" + b"\0" * 500]
)
def test_no_archive_at_all_is_the_users_mistake(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "bad.warc.gz").write_bytes(junk)
    with pytest.raises(HerdError, match=r"bad\.warc\.gz"):
        read(tmp_path / "bad.warc.gz")


def test_too_long_a_page_is_skipped(tmp_path: Path, archive: bytes) -> None:
    (tmp_path / "a.warc").write_bytes(archive)
    skipped: list[tuple[str, str]] = []
    source = WarcSource(paths=(str(tmp_path / "a.warc"),), max_page_bytes=10)
    assert list(read_pages(source, lambda name, reason: skipped.append((name, reason)))) == []
    assert all("longer than" in reason for _, reason in skipped)


@pytest.mark.parametrize(
    ("name", "pages", "skipped"),
    [
        ("chatnoir-resiliparse/warcfile.warc", 16, 0),
        ("chatnoir-resiliparse/warcfile.warc.gz", 16, 0),
        ("chatnoir-resiliparse/clipped.warc.gz", 0, 1),
        ("jwarc/cc.warc.gz", 1, 0),
        ("warcio/example.warc.gz", 1, 0),
        ("warcio/example-bad.warc.gz.bad", 1, 0),
        ("warcio/example-iana.org-chunked.warc", 1, 0),
        ("warcio/example-wrong-chunks.warc.gz", 1, 0),
        ("warcio/example-trunc.warc", 1, 1),
        ("whirlwind-python/whirlwind.warc.gz", 1, 0),
    ],
)
def test_real_archives(name: str, pages: int, skipped: int) -> None:
    if not SHARED.exists():
        pytest.skip("the test archives are not on this machine")
    found, left_out = read(SHARED / name)
    assert (len(found), len(left_out)) == (pages, skipped)
    assert all("\ufffd" not in page.content[:2000] for page in found)


@pytest.mark.parametrize("name", ["warcio/bad.arc", "warcio/example.arc.gz"])
def test_real_files_that_are_no_archives(name: str) -> None:
    if not SHARED.exists():
        pytest.skip("the test archives are not on this machine")
    with pytest.raises(HerdError, match="not readable as WARC"):
        read(SHARED / name)


def members(count: int = 6) -> list[bytes]:
    chance = random.Random(1)
    bodies = [f"<p>page {n} ".encode() + bytes(chance.choices(b"abcdefgh ", k=3000)) for n in range(count)]
    return [record("response", f"http://a/{n}", response(body)) for n, body in enumerate(bodies)]


def _harm(data: bytes, start: int, length: int) -> bytes:
    return data[:start] + bytes(byte ^ 0x5A for byte in data[start : start + length]) + data[start + length :]


@pytest.mark.parametrize(
    ("packed", "harm"),
    [(True, "inside"), *itertools.product([False, True], ["beginning", "hole", "junk between"])],
)
def test_damage_costs_its_own_record_and_is_noted_with_its_offset(tmp_path: Path, packed: bool, harm: str) -> None:
    stored = [gzip.compress(member, mtime=0) if packed else member for member in members()]
    starts = [sum(map(len, stored[:n])) for n in range(len(stored) + 1)]
    whole = b"".join(stored)
    broken = {
        "inside": _harm(whole, starts[2] + 300, 40),
        "beginning": _harm(whole, starts[2], 40),
        "hole": whole[: starts[2] + 500] + whole[starts[3] :],
        "junk between": whole[: starts[2]] + b"\x1f\x8b\x08 no WARC/1.0 at all " * 9 + whole[starts[2] :],
    }[harm]
    (tmp_path / "a.warc").write_bytes(broken)
    damages: list[Damage] = []
    pages = list(read_pages(WarcSource(paths=(str(tmp_path / "a.warc"),)), broken=damages.append))
    # A record that is not packed has no checksum: what follows a hole is taken for its end, and then read again.
    lost = [] if harm == "junk between" or (harm == "hole" and not packed) else ["http://a/2"]
    assert [page.url for page in pages] == [url for n in range(6) if (url := f"http://a/{n}") not in lost]
    (damage,) = damages
    assert damage.offset in (starts[1], starts[2])
    assert "goes on at byte" in damage.reason


def test_one_broken_archive_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "1.warc").write_bytes(members()[0])
    (tmp_path / "2.warc.gz").write_bytes(b"this is no archive\n" * 50)
    (tmp_path / "3.warc").write_bytes(members()[1])
    source = WarcSource(paths=(str(tmp_path),))
    out = tmp_path / "out"
    collect(PagesConfig(sources=(source,)), out, Progress.silent())
    assert [page.url for page in load_pages(out)] == ["http://a/0", "http://a/1"]
    (row,) = read_jsonl(out / "quarantine.jsonl")
    assert (row["file"], row["offset"]) == (str(tmp_path / "2.warc.gz"), 0)
    strict = source.model_copy(update={"damaged": "stop"})
    with pytest.raises(HerdError, match=r"2\.warc\.gz: not readable as WARC"):
        collect(PagesConfig(sources=(strict,)), tmp_path / "strict", Progress.silent())


def test_bombs_in_archives_are_skipped(tmp_path: Path) -> None:
    packed = gzip.compress(gzip.compress(b"\0" * 200_000_000, 9))
    bombs = [
        record(
            "response", "http://bomb/", response(gzip.compress(b" " * 50_000_000), extra="Content-Encoding: gzip\r\n")
        ),
        record("response", "http://nested/", response(packed, extra="Content-Encoding: gzip, gzip\r\n")),
        members()[0].replace(b"Content-Length: 30", b"Content-Length: 9999999999930"),
    ]
    (tmp_path / "a.warc").write_bytes(members()[1] + b"".join(bombs[:2]) + members()[2] + bombs[2])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pages, skipped = read(tmp_path / "a.warc")
    assert [page.url for page in pages] == ["http://a/1", "http://a/2"]
    assert [name for name, _ in skipped] == ["http://bomb/", "http://nested/", "http://a/0"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


INJURY = st.tuples(st.integers(0, 19_000), st.binary(max_size=60), st.integers(0, 400))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.booleans(), st.lists(st.tuples(st.integers(0, 19_000), st.binary(max_size=60), st.integers(0, 400)), max_size=3)
)
def test_no_damage_raises_or_costs_a_record_that_is_whole(
    tmp_path: Path, packed: bool, injuries: list[tuple[int, bytes, int]]
) -> None:
    stored = [gzip.compress(member, mtime=0) if packed else member for member in members()]
    data = b"".join(stored)
    for at, inserted, gone in injuries:
        data = data[:at] + inserted + data[at + gone :]
    (tmp_path / "a.warc").write_bytes(data)
    damages: list[Damage] = []
    pages = list(read_pages(WarcSource(paths=(str(tmp_path / "a.warc"),)), broken=damages.append))
    untouched = sum(member in data for member in stored)
    assert len(pages) >= untouched
    assert all(0 <= damage.offset <= len(data) for damage in damages)
