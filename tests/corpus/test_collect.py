"""The stage ``pages`` end to end, on real packages, and what it does with sources that give nothing."""

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from herd.corpus import pages as pages_module
from herd.corpus import python_docs
from herd.corpus.collect import PagesConfig, _State, collect, pages_fingerprint
from herd.corpus.extract import extract_page
from herd.corpus.pages import COLUMNS, Page, PageWriter, load_pages
from herd.corpus.python_docs import PythonDocs, distribution, own_dependencies, read_python_docs, standard_library
from herd.corpus.sources import HtmlSource, JsonlSource, ParquetSource, WarcSource
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress

SMALL = PythonDocs(stdlib=False, packages=("selectolax", "jinja2"), max_source_characters=100_000)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pages")
    collect(PagesConfig(sources=(SMALL,)), out, Progress.silent())
    return out


def test_what_lies_on_the_disk(artifact: Path) -> None:
    table = pq.read_table(artifact / "pages")
    assert tuple(table.column_names) == COLUMNS
    pages = list(load_pages(artifact))
    assert [page.id for page in pages] == table["id"].to_pylist()
    assert len({page.id for page in pages}) == len(pages)
    by_url = {page.url: page for page in pages}
    assert by_url["pydoc:jinja2.environment"].kind == "html"
    assert "Environment" in extract_page(by_url["pydoc:jinja2.environment"]).text
    assert by_url["readme:selectolax"].source == "readme"
    sources = [page for page in pages if page.kind == "code"]
    assert all(page.url == f"source:{page.title}" and page.title.endswith(".py") for page in sources if page.title)
    assert {page.package for page in sources} == {"selectolax", "Jinja2"}
    assert {page.package for page in pages} == {"selectolax", "Jinja2"}
    assert by_url["readme:selectolax"].license == "MIT"
    stats = json.loads((artifact / "stats.json").read_text())
    assert stats["pages"] == len(pages) == sum(row["pages"] for row in stats["sources"])
    skipped = [json.loads(line) for line in (artifact / "skipped.jsonl").read_text().splitlines()]
    assert stats["skipped"] == len(skipped)
    assert any(row["name"] == "selectolax.parser" and "ImportError" in row["reason"] for row in skipped)


def test_a_second_time_the_pages_are_the_same(artifact: Path, tmp_path: Path) -> None:
    collect(PagesConfig(sources=(SMALL,)), tmp_path, Progress.silent())
    assert [page.id for page in load_pages(tmp_path)] == [page.id for page in load_pages(artifact)]
    collect(PagesConfig(sources=(SMALL,)), tmp_path, Progress.silent())
    assert [page.id for page in load_pages(tmp_path)] == [page.id for page in load_pages(artifact)], (
        "over its own remains"
    )


def test_the_fingerprint_takes_no_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_docs, "render", None)
    (found,) = pages_fingerprint(PagesConfig())
    assert set(found["versions"]) == {"python", *own_dependencies()}
    assert "torch" in found["versions"]
    assert pages_fingerprint(PagesConfig()) != pages_fingerprint(PagesConfig(sources=(SMALL,)))


def test_modules_are_public_and_shallow_ones_first() -> None:
    modules = standard_library().modules
    assert {"json", "os.path", "asyncio.tasks", "builtins", "collections.abc"} <= set(modules)
    assert not {
        "posixpath",
        "antigravity",
        "this",
        "_thread",
        "test",
        "idlelib.run",
        "json.__main__",
        "unittest.test",
    } & set(modules)
    depths = [name.count(".") for name in modules]
    assert depths == sorted(depths)
    assert not [name for name in distribution("numpy").modules if ".tests" in name or "._" in name]
    files = {name for name in standard_library().files if name.startswith("site-packages")}
    assert not files


def test_a_limit_cuts_the_remote_modules() -> None:
    skipped: dict[str, str] = {}
    config = SMALL.model_copy(update={"packages": ("jinja2",), "max_characters": 300_000, "max_source_characters": 0})
    pages = list(read_python_docs(config, skipped.__setitem__))
    cut = [name for name, reason in skipped.items() if "max_characters" in reason]
    read = [page.title or "" for page in pages if page.kind == "html"]
    assert sum(len(page.content) for page in pages if page.kind == "html") <= 300_000
    assert cut
    assert [*read, *cut] == list(distribution("jinja2").modules)
    assert not [page for page in pages if page.kind == "code"]


def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = PagesConfig(sources=(PythonDocs(packages=("no-such-package",)),))
    with pytest.raises(HerdError, match="no-such-package"):
        pages_fingerprint(config)
    with pytest.raises(HerdError, match="no-such-package"):
        collect(config, tmp_path, Progress.silent())


def test_no_page_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.html").write_text(" ")
    with pytest.raises(HerdError, match=r"no page at all \(1 were skipped\)"):
        collect(PagesConfig(sources=(HtmlSource(paths=(str(tmp_path),)),)), tmp_path, Progress.silent())


def test_the_same_page_from_two_sources_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>a</p>")
    source = HtmlSource(paths=(str(tmp_path / "a.html"),))
    collect(PagesConfig(sources=(source, source)), tmp_path, Progress.silent())
    assert len(list(load_pages(tmp_path))) == 1
    assert "twice" in (tmp_path / "skipped.jsonl").read_text()


def test_pages_survive_the_disk(tmp_path: Path) -> None:
    writer = PageWriter(tmp_path / "pages")
    pages = [Page("u", "s", "text", "größer"), Page("v", "s", "code", "x", "2020-01-01", "p", "t", "MIT")]
    for page in [*pages, Page("w", "s", "text", "lone \ud800")]:
        writer.add(page)
    writer.close()
    assert list(load_pages(tmp_path)) == [*pages, Page("w", "s", "text", "lone ?")]
    (tmp_path / "pages" / "00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(HerdError, match=r"00000\.parquet"):
        list(load_pages(tmp_path))
    with pytest.raises(HerdError, match="holds no pages"):
        list(load_pages(tmp_path / "pages"))


def _archives(place: Path) -> tuple[JsonlSource | WarcSource | ParquetSource | HtmlSource, ...]:
    """Every kind of file, with pages that come twice, lines and records that are broken, and some that are skipped."""
    chance = random.Random(2)
    bodies = [f"<p>{n} {chance.random()} {'river ' * chance.randint(40, 90)}</p>" for n in range(60)]
    http = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
    records = [
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://a/{n % 25}\r\nWARC-Date: 2020-02-03T04:05:06Z\r\n"
        f"WARC-Record-ID: <urn:uuid:12345678-1234-1234-1234-{n:012d}>\r\nContent-Type: application/http\r\n"
        f"Content-Length: {len(http + body)}\r\n\r\n{http}{body}\r\n\r\n".encode()
        for n, body in enumerate([*bodies[:25], *bodies[20:25], *bodies[25:30]])
    ]  # fmt: skip
    packed = [gzip.compress(record, mtime=0) for record in records]
    packed[7] = packed[7][:-20]
    (place / "a.warc.gz").write_bytes(b"".join(packed[:20]))
    (place / "b.warc").write_bytes(b"".join(records[20:]))
    lines = [json.dumps({"text": body}) for body in bodies[30:45]]
    (place / "c.jsonl").write_text("\n".join([*lines[:4], "{broken", '{"text": ""}', *lines[4:]]))
    pq.write_table(pa.table({"text": bodies[45:55], "url": [f"u{n}" for n in range(10)]}), place / "d.parquet")
    for n in range(5):
        (place / f"e{n}.html").write_text(bodies[55 + n])
    paths = (str(place),)
    return WarcSource(paths=paths), JsonlSource(paths=paths), ParquetSource(paths=paths), HtmlSource(paths=paths)


def _content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.rglob("*.*")) if path.name != "stats.json"}


class _KilledError(Exception):
    pass


def test_a_killed_call_goes_on_within_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after every single page, one after the other: the result is the same, and nothing is read twice."""
    monkeypatch.setattr(pages_module, "_SHARD_CHARACTERS", 900)
    (tmp_path / "in").mkdir()
    config = PagesConfig(sources=_archives(tmp_path / "in"))
    collect(config, tmp_path / "whole", Progress.silent())
    wanted = _content(tmp_path / "whole")
    count = json.loads((tmp_path / "whole" / "stats.json").read_text())["pages"]
    assert count > 50
    assert {"quarantine.jsonl", "skipped.jsonl"} <= set(wanted)
    save, out = _State.save, tmp_path / "killed"
    kills = 0

    def save_and_die(state: _State, shards: int) -> None:
        nonlocal kills
        save(state, shards)
        kills += 1
        raise _KilledError

    monkeypatch.setattr(_State, "save", save_and_die)
    while True:
        try:
            collect(config, out, Progress.silent())
            break
        except _KilledError:
            continue
    assert len(list((out / "pages").iterdir())) - kills in (0, 1), "every shard but the last was the last of a call"
    assert kills > 15
    assert _content(out) == wanted
    before, after = (json.loads((place / "stats.json").read_text()) for place in (tmp_path / "whole", out))
    assert {name: before[name] for name in before if name != "seconds"} == {
        name: after[name] for name in after if name != "seconds"
    }


def test_a_checkpoint_of_other_files_counts_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_module, "_SHARD_CHARACTERS", 900)
    (tmp_path / "in").mkdir()
    config = PagesConfig(sources=_archives(tmp_path / "in"))
    finish = _State.finish
    monkeypatch.setattr(_State, "finish", lambda *_: (_ for _ in ()).throw(_KilledError()))
    with pytest.raises(_KilledError):
        collect(config, tmp_path / "out", Progress.silent())
    assert (tmp_path / "out" / ".checkpoint.json").exists()
    monkeypatch.setattr(_State, "finish", finish)
    (tmp_path / "in" / "e0.html").write_text("<p>another page</p>")
    for name in ("out", "fresh"):
        collect(config, tmp_path / name, Progress.silent())
    assert _content(tmp_path / "out") == _content(tmp_path / "fresh")
    assert not (tmp_path / "out" / ".checkpoint.json").exists()
