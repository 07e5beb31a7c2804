"""Whole or absent: what a reader can meet after a failure at any point."""

import hashlib
import math
from pathlib import Path

import pytest

from herd.foundation.errors import HerdError
from herd.foundation.files import (
    atomic_directory,
    atomic_path,
    digest_file,
    digest_value,
    finish_directory,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
)


def test_failed_write_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    write_json(target, {"loss": 1})
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(target) == {"loss": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_failed_directory_is_absent_and_a_finished_one_replaces_the_old(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with pytest.raises(RuntimeError), atomic_directory(target) as temporary:
        (temporary / "weights").write_text("half")
        raise RuntimeError
    assert not target.exists()
    for content in ("first", "second"):
        with atomic_directory(target) as temporary:
            (temporary / "weights").write_text(content)
        assert (target / "weights").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_finish_directory_removes_files_of_the_older_one(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "stale").touch()
    (tmp_path / "new").mkdir()
    finish_directory(tmp_path / "new", tmp_path / "old")
    assert list((tmp_path / "old").iterdir()) == []


def test_jsonl_round_trip_keeps_every_character(tmp_path: Path) -> None:
    rows = [{"text": "Zeile\nmit \u2028 Trenner"}, {"text": "हिन्दी"}]
    assert write_jsonl(tmp_path / "rows.jsonl", rows) == 2
    assert list(read_jsonl(tmp_path / "rows.jsonl")) == rows


def test_numbers_that_json_cannot_say_become_null(tmp_path: Path) -> None:
    value = {"loss": math.nan, "range": (-math.inf, 1.5), "rows": [{"p": math.inf}, "NaN", None, 3, True]}
    said = {"loss": None, "range": [None, 1.5], "rows": [{"p": None}, "NaN", None, 3, True]}
    write_json(tmp_path / "one.json", value)
    write_jsonl(tmp_path / "rows.jsonl", [value, {"p": 1.0}])
    assert read_json(tmp_path / "one.json") == said
    assert list(read_jsonl(tmp_path / "rows.jsonl")) == [said, {"p": 1.0}]


def test_broken_input_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(HerdError, match=r"rows\.jsonl, line 2"):
        list(read_jsonl(path))
    path.write_bytes(b'{"a": 1}\n{"a": "\xff"}\n')
    with pytest.raises(HerdError, match=r"rows\.jsonl, line 2: byte 8 of the line is not UTF-8"):
        list(read_jsonl(path))
    with pytest.raises(HerdError, match="there is no such file"):
        read_json(tmp_path / "absent.json")


def test_digests_agree_with_hashlib_and_ignore_the_order_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(b"x" * 3_000_000)
    assert digest_file(path) == hashlib.blake2b(b"x" * 3_000_000, digest_size=16).hexdigest()
    assert digest_value({"a": 1, "b": [2]}) == digest_value({"b": [2], "a": 1})
    assert digest_value({"a": 1}) != digest_value({"a": 2})
