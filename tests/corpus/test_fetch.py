"""Downloads from a server on this machine that misbehaves in every way in which servers do."""

import gzip
import hashlib
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from herd.cli import app
from herd.corpus.fetch import CommonCrawlConfig, choose, fetch, list_segments
from herd.corpus.web import Patience
from herd.foundation.errors import HerdError
from herd.foundation.files import read_jsonl
from herd.foundation.progress import Progress

SNAPSHOT = "CC-MAIN-2024-10"
PATIENCE = Patience(timeout=5, attempts=4, first_wait=0.01, longest_wait=0.05)


def archive(seed: int) -> bytes:
    chance = random.Random(seed)
    return b"".join(gzip.compress(chance.randbytes(20_000), mtime=0) for _ in range(10))


def path_of(segment: int, number: int) -> str:
    return f"crawl-data/{SNAPSHOT}/segments/17000{segment}.{segment}/warc/CC-MAIN-{number:05d}.warc.gz"


class Server(ThreadingHTTPServer):
    """Files by path, faults by path (one for each request, in order), and what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {path_of(s, n): archive(10 * s + n) for s in range(3) for n in range(3)}
        listing = "".join(f"{path}\n" for path in sorted(self.files)).encode()
        self.files[f"crawl-data/{SNAPSHOT}/warc.paths.gz"] = gzip.compress(listing)
        self.faults: dict[str, list[str]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.sent: Counter[str] = Counter()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        span = self.headers.get("Range")
        self.server.asked.append((path, span))
        waiting = self.server.faults.get(path, [])
        fault = waiting.pop(0) if waiting else ""
        data = self.server.files.get(path)
        if data is None or fault == "404":
            return self.send_error(404)
        if fault.isdigit():
            self.send_response(int(fault))
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if fault == "hang up":
            return self.connection.close()
        tag = f'"{hashlib.md5(data).hexdigest()}"' if fault != "other tag" else '"0"'
        start = 0
        if span and fault != "no ranges" and self.headers.get("If-Range") == tag:
            start = int(re.findall(r"\d+", span)[0])
            if start >= len(data):
                return self.send_error(416)
            self.send_response(206)
            shown = 0 if fault == "wrong range" else start
            self.send_header("Content-Range", f"bytes {shown}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        body = data[start:]
        if fault == "corrupt":
            body = bytes([body[0] ^ 255]) + body[1:]
        self.send_header("ETag", '"multipart-3"' if fault == "corrupt without md5" else tag)
        if fault == "corrupt without md5":
            body = body[:50_000] + b"x" * 50 + body[50_050:]
        if "no length" not in fault:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[: len(body) // 3] if fault in ("cut", "cut, no length") else body
        self.server.sent[path] += len(body)
        self.wfile.write(body)
        return None

    def log_message(self, format: str, *arguments: object) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


def config(server: Server, **values: object) -> CommonCrawlConfig:
    return CommonCrawlConfig(
        snapshot=SNAPSHOT, server=server.address, patience=PATIENCE, **{"segments": "0", "parallel": 1} | values
    )


def run(server: Server, out: Path, **values: object) -> list[Path]:
    return fetch(config(server, **values), out, Progress.silent())


def test_segments_are_listed_and_chosen(server: Server) -> None:
    segments = list_segments(config(server))
    assert list(segments) == ["170000.0", "170001.1", "170002.2"]
    assert choose(segments, "1-2, 0", 1) == [path_of(1, 0), path_of(2, 0), path_of(0, 0)]
    assert choose(segments, "170002.2", None) == [path_of(2, n) for n in range(3)]
    for wrong in ("3", "2-3", "x", "1-0", "-1"):
        with pytest.raises(HerdError, match=f"segments: {wrong} is none of the 3"):
            choose(segments, wrong, None)


def test_a_listing_that_breaks_off_is_asked_for_again_or_refused(server: Server) -> None:
    listing = f"crawl-data/{SNAPSHOT}/warc.paths.gz"
    server.faults[listing] = ["cut", "cut, no length"]
    assert list(list_segments(config(server))) == ["170000.0", "170001.1", "170002.2"]
    server.faults[listing] = ["cut, no length"] * 99
    with pytest.raises(HerdError, match="broke off"):
        list_segments(config(server))


def test_files_come_whole_with_their_digests_and_only_once(server: Server, tmp_path: Path) -> None:
    places = run(server, tmp_path, segments="0,2", files=2, parallel=3)
    wanted = [path_of(s, n) for s in (0, 2) for n in (0, 1)]
    assert [place.read_bytes() for place in places] == [server.files[path] for path in wanted]
    rows = list(read_jsonl(tmp_path / "fetched.jsonl"))
    assert [row["path"] for row in rows] == wanted
    assert [row["sha256"] for row in rows] == [hashlib.sha256(server.files[path]).hexdigest() for path in wanted]
    asked = len(server.asked)
    assert run(server, tmp_path, segments="0,2", files=2) == places
    assert len(server.asked) == asked + 1, "the listing alone"
    places[0].write_bytes(b"spoilt")
    run(server, tmp_path, segments="0,2", files=2)
    assert places[0].read_bytes() == server.files[wanted[0]]
    assert not list(tmp_path.rglob(".*"))


FAULTS = {
    "busy, then well": ["503", "429", "500"],
    "hangs up": ["hang up", "hang up"],
    "cut over and over": ["cut", "cut", "cut", "cut", "cut", "cut", "cut"],
    "cut, then no ranges": ["cut", "no ranges"],
    "cut, then another version": ["cut", "other tag"],
    "cut, then a wrong range": ["cut", "wrong range"],
    "corrupt": ["corrupt"],
    "corrupt, and no MD5 to tell": ["corrupt without md5"],
    "no length": ["no length"],
    "all of it": ["503", "cut", "hang up", "cut", "wrong range", "corrupt", "cut"],
}


@pytest.mark.parametrize("name", FAULTS)
def test_whatever_the_server_does_the_file_is_right(server: Server, tmp_path: Path, name: str) -> None:
    path = path_of(0, 0)
    server.faults[path] = list(FAULTS[name])
    if name == "cut, then another version":
        server.faults[path] += ["other tag"]
    (place,) = run(server, tmp_path, files=1)
    assert place.read_bytes() == server.files[path]


def test_what_came_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    path = path_of(0, 0)
    server.faults[path] = ["cut", "cut"]
    run(server, tmp_path, files=1)
    spans = [span for asked, span in server.asked if asked == path]
    third = len(server.files[path]) // 3
    assert spans[:2] == [None, f"bytes={third}-"]
    assert server.sent[path] == len(server.files[path])


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server: Server, tmp_path: Path) -> None:
    path = path_of(0, 0)
    server.faults[path] = ["cut", *["503"] * 4]
    with pytest.raises(HerdError, match=r"1 of 2 files are missing.*503.*given up after 4 attempts"):
        run(server, tmp_path, files=2)
    assert [row["path"] for row in read_jsonl(tmp_path / "fetched.jsonl")] == [path_of(0, 1)]
    server.asked.clear()
    run(server, tmp_path, files=2)
    assert [span for asked, span in server.asked if asked == path] == [f"bytes={len(server.files[path]) // 3}-"]
    assert (tmp_path / "170000.0" / "CC-MAIN-00000.warc.gz").read_bytes() == server.files[path]


def test_a_file_that_stays_corrupt_is_never_put_in_place(server: Server, tmp_path: Path) -> None:
    server.faults[path_of(0, 0)] = ["corrupt"] * 99
    with pytest.raises(HerdError, match="its MD5 is not"):
        run(server, tmp_path, files=1)
    assert [path.name for path in tmp_path.rglob("*.warc.gz")] == []
    server.faults.clear()
    server.files[path_of(0, 1)] = archive(1)[:-100]
    with pytest.raises(HerdError, match="not packed soundly"):
        run(server, tmp_path, files=2)


def test_refusals_and_wrong_listings_are_named(server: Server, tmp_path: Path) -> None:
    server.faults[path_of(0, 0)] = ["404"]
    with pytest.raises(HerdError, match=r"CC-MAIN-00000\.warc\.gz: the server answers 404"):
        run(server, tmp_path, files=1)
    listing = f"crawl-data/{SNAPSHOT}/warc.paths.gz"
    lists = (b"crawl-data/x/segments/../warc/x.gz", b"crawl-data/x/segments/1/../../x", b"/etc/passwd", b"\xff")
    for data in (b"<html>", *map(gzip.compress, lists)):
        server.files[listing] = data
        with pytest.raises(HerdError, match=r"no file of a segment|not a listing"):
            run(server, tmp_path)
    del server.files[listing]
    with pytest.raises(HerdError, match="404"):
        run(server, tmp_path)
    with pytest.raises(HerdError, match="no answer"):
        fetch(config(server).model_copy(update={"server": "http://127.0.0.1:9"}), tmp_path, Progress.silent())


def test_the_verb(server: Server, tmp_path: Path) -> None:
    line = ["fetch", "common-crawl", "--snapshot", SNAPSHOT, "--out", str(tmp_path / "crawl"), "--set",
            f"server={server.address}"]  # fmt: skip
    listed = CliRunner().invoke(app, line)
    assert listed.output.splitlines()[0] == "0\t170000.0\t3 files"
    assert not (tmp_path / "crawl").exists()
    result = CliRunner().invoke(app, [*line, "--segments", "1-2", "--files", "1"])
    assert result.exit_code == 0, result.output
    assert "2 files are there" in result.output
    assert len(list((tmp_path / "crawl").glob("*/*.warc.gz"))) == 2
    assert json.loads((tmp_path / "crawl" / "fetched.jsonl").read_text().splitlines()[0])["bytes"] > 0
    (tmp_path / "crawl.yaml").write_text('segments: "1-2"\nfiles: 1\n')
    again = CliRunner().invoke(app, [*line, "--config", str(tmp_path / "crawl.yaml")])
    assert "2 files are there" in again.output, "segments stand in the file"
    assert CliRunner().invoke(app, [*line[:3], "latest", *line[4:]]).exit_code == 2
