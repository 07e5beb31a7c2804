"""Files as sources: what they give, in which order, and the sentence for each that cannot be read."""

import functools
import gzip
import json
import resource
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from herd.corpus.charset import decode_html
from herd.corpus.pages import Page
from herd.corpus.sources import (
    Damage,
    HtmlSource,
    JsonlSource,
    ParquetSource,
    SourceConfig,
    fingerprint,
    read_pages,
)
from herd.foundation.errors import HerdError


def test_folders_and_globs_give_every_file_once_in_order(tmp_path: Path) -> None:
    (tmp_path / "site" / "deep").mkdir(parents=True)
    for name in ("b.html", "a.htm", "deep/c.HTML", "notes.txt"):
        (tmp_path / "site" / name).write_text(f"<p>{name}</p>")
    folder, pattern = str(tmp_path / "site"), str(tmp_path / "site" / "**" / "*.html")
    pages = list(read_pages(HtmlSource(paths=(folder, pattern), name="mine", license="MIT")))
    assert [page.content for page in pages] == ["<p>a.htm</p>", "<p>b.html</p>", "<p>deep/c.HTML</p>"]
    assert {(page.source, page.kind, page.license) for page in pages} == {("mine", "html", "MIT")}
    assert pages[0].url == f"file:{folder}/a.htm"


@pytest.mark.parametrize("path", ["nothing", "nothing/*.html", "empty", "file.html/*"])
def test_a_path_that_leads_to_no_page_is_named(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.html").write_text("x")
    with pytest.raises(HerdError, match=r"kind html") as error:
        list(read_pages(HtmlSource(paths=(str(tmp_path / path),))))
    assert str(tmp_path / path) in str(error.value)


@pytest.mark.parametrize("write", [lambda p, t: p.write_text(t), lambda p, t: p.write_bytes(gzip.compress(t.encode()))])
def test_jsonl(tmp_path: Path, write: Any) -> None:
    path = tmp_path / ("a.jsonl" if write(tmp_path / "probe", "x") == 1 else "a.jsonl.gz")
    rows = [{"body": "one", "url": "u1", "date": "2020-01-01"}, {"body": ""}, {"body": "three"}]
    write(path, "\n".join(map(json.dumps, rows)) + "\n\n")
    skipped: list[str] = []
    pages = list(read_pages(JsonlSource(paths=(str(tmp_path),), content="body"), lambda name, _: skipped.append(name)))
    assert pages == [
        Page("u1", "jsonl", "text", "one", date="2020-01-01"),
        Page(f"file:{path}#3", "jsonl", "text", "three"),
    ]
    assert skipped == [f"{path}#2"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"text": "a"}\n{"text": \n', "line 2: not JSON"),
        (b'["a"]\n', "line 1: not a JSON object"),
        (b"\xff\xfe\x00", "not readable as JSONL"),
        (gzip.compress(b'{"text": "a"}\n', mtime=0)[:-4], "not readable as JSONL"),
    ],
)
def test_broken_jsonl(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / ("b.jsonl.gz" if content[:2] == b"\x1f\x8b" else "b.jsonl")
    path.write_bytes(content)
    with pytest.raises(HerdError, match=said) as error:
        list(read_pages(JsonlSource(paths=(str(path),))))
    assert str(path) in str(error.value)


def test_parquet_by_columns(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"html": [b"<p>caf\xc3\xa9</p>", None], "url": ["u", "v"], "n": [1, 2]}), tmp_path / "a.parquet"
    )
    source = ParquetSource(paths=(str(tmp_path),), content="html", content_kind="html")
    skipped: list[str] = []
    assert list(read_pages(source, lambda name, _: skipped.append(name))) == [
        Page("u", "parquet", "html", "<p>café</p>")
    ]
    assert len(skipped) == 1
    with pytest.raises(HerdError, match=r"a\.parquet: has no column 'text' \(it has html, n, url\)"):
        list(read_pages(ParquetSource(paths=(str(tmp_path),))))


@pytest.mark.parametrize("content", [b"", b"PAR1 not really PAR1", b"x" * 100])
def test_broken_parquet(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.parquet").write_bytes(content)
    with pytest.raises(HerdError, match=r"b\.parquet: not readable as Parquet"):
        list(read_pages(ParquetSource(paths=(str(tmp_path),))))


def test_cut_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["abc " * 500] * 50}), tmp_path / "b.parquet")
    whole = (tmp_path / "b.parquet").read_bytes()
    for cut in range(0, len(whole) - 1, max(len(whole) // 7, 1)):
        (tmp_path / "b.parquet").write_bytes(whole[:cut])
        with pytest.raises(HerdError, match=r"b\.parquet"):
            list(read_pages(ParquetSource(paths=(str(tmp_path),))))


def test_html_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    with pytest.raises(HerdError, match=r"a\.html: not HTML but binary data"):
        list(read_pages(HtmlSource(paths=(str(tmp_path),))))


def test_the_recipe_knows_its_kinds() -> None:
    adapter: TypeAdapter[SourceConfig] = TypeAdapter(SourceConfig)
    assert isinstance(adapter.validate_python({"kind": "html", "paths": ["x"]}), HtmlSource)
    for wrong in ({"kind": "pdf", "paths": ["x"]}, {"kind": "html", "path": "x"}, {"kind": "html", "paths": []}):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)


def test_fingerprint_follows_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>one</p>")
    source = HtmlSource(paths=(str(tmp_path),))
    before = fingerprint(source)
    assert before == fingerprint(source)
    (tmp_path / "a.html").write_text("<p>longer</p>")
    assert fingerprint(source) != before


@pytest.mark.parametrize(
    ("data", "declared", "text"),
    [
        ("<p>größer</p>".encode(), None, "<p>größer</p>"),
        (b"<p>caf\xe9</p>", None, "<p>café</p>"),
        (b"<p>\x93so\x94</p>", "iso-8859-1", "<p>“so”</p>"),
        (b"\xef\xbb\xbf<p>\xc3\xa9</p>", "latin-1", "<p>é</p>"),
        ("<p>é</p>".encode("utf-16"), None, "<p>é</p>"),
        ("<meta charset='gb2312'><p>中文</p>".encode("gb18030"), None, "<meta charset='gb2312'><p>中文</p>"),
        (
            "<?xml version='1.0' encoding='koi8-r'?><p>да</p>".encode("koi8-r"),
            None,
            "<?xml version='1.0' encoding='koi8-r'?><p>да</p>",
        ),
        ("<p>größer €</p>".encode(), "ascii", "<p>größer €</p>"),
        ("<p>é</p>".encode(), "no-such-charset", "<p>é</p>"),
        (b"<p>caf\xe9 cr\xe8me</p>", "utf-8", "<p>café crème</p>"),
        (b"<meta charset=koi8-r><p>\xc4\xc1</p>", "utf-8", "<meta charset=koi8-r><p>да</p>"),
        ("<p>größer, müde</p>".encode() + b"\xff", "utf-8", "<p>größer, müde</p>\ufffd"),
        ("<p>größer, müde</p>".encode() + b"\xff", None, "<p>größer, müde</p>\ufffd"),
    ],
)
def test_charsets(data: bytes, declared: str | None, text: str) -> None:
    assert decode_html(data, declared) == text


def test_broken_lines_are_noted_and_the_others_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "one"}\n{"text": \n["x"]\n\xff\xfe\n' + b"[" * 100_000 + b'\n{"text": "two"}\n')
    damages: list[Damage] = []
    pages = list(read_pages(JsonlSource(paths=(str(path),)), broken=damages.append))
    assert [page.content for page in pages] == ["one", "two"]
    assert [(damage.offset, damage.unit) for damage in damages] == [(2, "line"), (3, "line"), (4, "line"), (5, "line")]


def test_a_shard_that_breaks_off_gives_what_stands_before(tmp_path: Path) -> None:
    lines = b"".join(json.dumps({"text": f"page {n}"}).encode() + b"\n" for n in range(9000))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0)[:-4000])
    (tmp_path / "b.jsonl").write_text('{"text": "last"}\n')
    damages: list[Damage] = []
    pages = list(read_pages(JsonlSource(paths=(str(tmp_path),)), broken=damages.append))
    assert pages[0].content == "page 0"
    assert pages[-1].content == "last"
    (damage,) = damages
    assert damage.unit == "line"
    assert 100 < damage.offset <= len(pages)


def test_no_line_and_no_cell_is_held_beyond_the_limit(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "bomb.jsonl.gz", "wb", compresslevel=1) as out:
        out.write(b'{"text": "before"}\n{"text": "')
        for _ in range(200):
            out.write(b"a" * 1_000_000)
        out.write(b'"}\n{"text": "after"}\n')
    cell = pa.array(["a" * 5_000_000, "short"]).take(pa.array([0] * 60 + [1]))
    pq.write_table(pa.table({"text": cell}), tmp_path / "bomb.parquet", use_dictionary=True)
    assert (tmp_path / "bomb.parquet").stat().st_size < 2_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    skipped: list[str] = []
    limit = {"paths": (str(tmp_path),), "max_page_bytes": 1_000_000}
    for source, wanted in ((JsonlSource(**limit), ["before", "after"]), (ParquetSource(**limit), ["short"])):
        pages = list(read_pages(source, lambda _, reason: skipped.append(reason)))
        assert [page.content for page in pages] == wanted
    assert skipped == ["longer than 1,000,000 bytes"] * 61
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


def test_a_huge_page_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(b"<p>" * 3_000_000)
    skipped: list[str] = []
    assert not list(read_pages(HtmlSource(paths=(str(tmp_path),)), lambda _, reason: skipped.append(reason)))
    assert skipped == ["longer than 8,000,000 bytes"]


def test_addresses_that_fsspec_knows(tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    for name in ("deep/b.jsonl", "a.jsonl", "notes.txt"):
        system.pipe(f"/crawl/{name}", json.dumps({"text": name}).encode())
    (tmp_path / "c.jsonl").write_text('{"text": "c"}')
    paths = ("memory://crawl", "memory://crawl/*.jsonl", (tmp_path / "c.jsonl").as_uri())
    source = JsonlSource(paths=paths)
    pages = list(read_pages(source))
    assert [page.content for page in pages] == ["a.jsonl", "deep/b.jsonl", "c"]
    assert pages[0].url == "memory:///crawl/a.jsonl#1"
    before = fingerprint(source)
    system.pipe("/crawl/a.jsonl", b'{"text": "longer than before"}')
    assert fingerprint(source) != before
    for wrong, said in {"memory://none": "no such file", "no-such-scheme://x": "cannot be read"}.items():
        with pytest.raises(HerdError, match=said):
            fingerprint(JsonlSource(paths=(wrong,)))


def test_pages_over_http(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="reading over http needs the extra remote")
    (tmp_path / "a.html").write_text("<p>over the wire</p>")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        (page,) = read_pages(HtmlSource(paths=(f"{address}/a.html",)))
        assert (page.url, page.content) == (f"{address}/a.html", "<p>over the wire</p>")
        with pytest.raises(HerdError, match="no such file"):
            list(read_pages(HtmlSource(paths=(f"{address}/b.html",))))
        server.shutdown()
