"""The container against the ``gguf`` package, both ways, and files that are damaged in every way."""

import os
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from herd.formats.gguf.block_types import F16, F32, Q8_0
from herd.formats.gguf.blocks import encode
from herd.formats.gguf.container import GgufFile, Value, header_bytes, lay_out, padded
from herd.foundation.errors import HerdError

METADATA: dict[str, Value] = {
    "general.architecture": "llama",
    "a.whole": 7,
    "a.negative": -3,
    "a.wide": 1 << 40,
    "a.real": 0.5,
    "a.flag": True,
    "some.words": ["", "é", "a b"],
    "some.bytes": np.array([1, 2, 255], dtype=np.uint8),
    "some.wholes": np.array([-1, 2], dtype=np.int32),
    "some.reals": np.array([0.25, -1e30]),
    "some.flags": np.array([True, False]),
}
TENSORS = {"first": torch.arange(6.0).view(2, 3), "second": torch.linspace(-1, 1, 64).view(1, 64)}
KINDS = {"first": F32, "second": Q8_0}


def write(path: Path, metadata: dict[str, Value] = METADATA) -> Path:
    table = lay_out([(name, tuple(tensor.shape), KINDS[name]) for name, tensor in TENSORS.items()])
    out = bytearray(header_bytes(metadata, table))
    for stored in table:
        data = encode(TENSORS[stored.name], stored.kind).numpy().tobytes()
        out += data.ljust(padded(len(data)), b"\0")
    path.write_bytes(out)
    return path


def same(found: Any, expected: Any) -> bool:
    return bool(np.array_equal(found, expected)) if isinstance(expected, np.ndarray) else bool(found == expected)


def test_others_read_what_we_write(tmp_path: Path) -> None:
    reader = gguf.GGUFReader(write(tmp_path / "a.gguf"))
    assert all(same(np.array(reader.fields[key].contents()), np.array(value)) for key, value in METADATA.items())
    assert [tensor.name for tensor in reader.tensors] == list(TENSORS)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert values.shape == TENSORS[tensor.name].shape
        assert np.allclose(values, TENSORS[tensor.name], atol=0.005)


def test_we_read_what_we_write(tmp_path: Path) -> None:
    file = GgufFile(write(tmp_path / "a.gguf"))
    assert file.version == 3
    assert all(same(file.metadata[key], value) for key, value in METADATA.items())
    assert torch.equal(file.data("first").view(torch.float32).view(2, 3), TENSORS["first"])


def test_we_read_what_others_write(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "b.gguf", "llama")
    values = {"uint8": 200, "int8": -5, "uint16": 60_000, "int16": -300, "uint32": 1 << 31, "int32": -(1 << 30)}
    values |= {"uint64": 1 << 60, "int64": -(1 << 60), "float32": 0.5, "float64": 1e-300, "bool": True, "string": "é"}
    for kind, value in values.items():
        getattr(writer, f"add_{kind}")(f"of.{kind}", value)
    writer.add_array("of.words", ["a", "", "ü"])
    writer.add_array("of.numbers", [1, -2, 3])
    writer.add_custom_alignment(64)
    half = np.arange(10, dtype=np.float16).reshape(2, 5)
    single = np.linspace(0, 1, 7, dtype=np.float32)
    writer.add_tensor("half", half)
    writer.add_tensor("single", single)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GgufFile(tmp_path / "b.gguf")
    assert {key: file.metadata[f"of.{key}"] for key in values} == values
    assert file.metadata["of.words"] == ["a", "", "ü"]
    assert list(file.metadata["of.numbers"]) == [1, -2, 3]  # type: ignore[arg-type]
    assert file.alignment == 64
    assert file.tensors["half"].shape == (2, 5)
    assert file.tensors["half"].kind is F16
    assert np.array_equal(file.data("half").view(torch.float16).view(2, 5).numpy(), half)
    assert np.array_equal(file.data("single").view(torch.float32).numpy(), single)


def test_version_two_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf")
    path.write_bytes(_patched(path, 4, struct.pack("<I", 2)))
    assert GgufFile(path).version == 2


def test_a_tensors_bytes_are_mapped_and_the_file_is_safe_from_writes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf")
    before = path.read_bytes()
    view = GgufFile(path).data("first")
    view.zero_()
    assert path.read_bytes() == before


def _patched(path: Path, place: int, data: bytes) -> bytes:
    whole = bytearray(path.read_bytes())
    whole[place : place + len(data)] = data
    return bytes(whole)


@pytest.mark.parametrize(
    ("place", "data", "sentence"),
    [
        (0, b"GGML", "does not begin with GGUF"),
        (4, struct.pack("<I", 4), "is GGUF version 4; versions 2 and 3 are read"),
        (4, struct.pack("<I", 1), "is GGUF version 1"),
        (4, struct.pack(">I", 3), "is a big-endian GGUF file"),
        (8, struct.pack("<Q", 1 << 62), "promises 4611686018427387904 tensors"),
        (16, struct.pack("<Q", 1 << 40), "promises 1099511627776 metadata keys"),
        (24, struct.pack("<Q", 1 << 50), "the name of a metadata key reaches beyond the end"),
    ],
)
def test_damaged_beginnings_are_refused(tmp_path: Path, place: int, data: bytes, sentence: str) -> None:
    path = write(tmp_path / "a.gguf")
    path.write_bytes(_patched(path, place, data))
    with pytest.raises(HerdError, match=rf"a\.gguf: {sentence}"):
        GgufFile(path)


def _replace(path: Path, old: bytes, new: bytes) -> None:
    whole = path.read_bytes()
    assert whole.count(old) == 1
    path.write_bytes(whole.replace(old, new))


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _list(key: str, kind: int, count: int) -> bytes:
    return _text(key) + struct.pack("<IIQ", 9, kind, count)


def _entry(axes: int = 2, width: int = 3, height: int = 2, kind: int = 0) -> bytes:
    return _text("first") + struct.pack("<IQQI", axes, width, height, kind)


DAMAGE = {
    "a type not read": (_entry(), _entry(kind=10), r"tensor first is stored as type 10 \(Q2_K\)"),
    "a type unheard of": (_entry(), _entry(kind=99), r"tensor first is stored as type 99 \(unknown\)"),
    "a row that is no block": (_entry(), _entry(kind=8), r"tensor first of shape \(2, 3\) cannot be .* Q8_0"),
    "too many axes": (_entry(), _entry(axes=9), "tensor first has 9 axes"),
    "too large": (_entry(), _entry(width=1 << 40), "tensor first reaches beyond the end"),
    "empty": (_entry(), _entry(width=0), r"tensor first of shape \(2, 0\)"),
    "unaligned": (struct.pack("<IQ", 8, 32), struct.pack("<IQ", 8, 33), "tensor second begins at byte 33"),
    "upon another": (struct.pack("<IQ", 8, 32), struct.pack("<IQ", 8, 0), "tensor second lies upon tensor first"),
    "outside": (struct.pack("<IQ", 8, 32), struct.pack("<IQ", 8, 1 << 60), "tensor second reaches beyond the end"),
    "a type of value": (_text("a.whole") + b"\4", _text("a.whole") + b"\x4d", "a.whole has the unknown type 77"),
    "many strings": (_list("some.words", 8, 3), _list("some.words", 8, 1 << 60), "some.words promises"),
    "many numbers": (_list("some.wholes", 5, 2), _list("some.wholes", 5, 1 << 60), "the value of some.wholes reaches"),
    "lists of lists": (_list("some.wholes", 5, 2), _list("some.wholes", 9, 2), "some.wholes has the unknown type 9"),
    "not UTF-8": ("é".encode(), b"\xff\xfe", "the value of some.words is not valid UTF-8"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_entries_are_refused_by_name(tmp_path: Path, damage: str) -> None:
    old, new, sentence = DAMAGE[damage]
    path = write(tmp_path / "a.gguf")
    whole = path.read_bytes()
    assert whole.count(old) == 1
    path.write_bytes(whole.replace(old, new))
    with pytest.raises(HerdError, match=rf"a\.gguf: .*{sentence}"):
        GgufFile(path)


def test_keys_and_names_stand_there_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf", {"key.one": 1, "key.two": 2})
    path.write_bytes(path.read_bytes().replace(b"key.two", b"key.one"))
    with pytest.raises(HerdError, match=r"key\.one stands there twice"):
        GgufFile(path)
    table = lay_out([("same", (8,), F32), ("same", (8,), F32)])
    path.write_bytes(header_bytes({}, table) + bytes(64))
    with pytest.raises(HerdError, match="two tensors bear the name same"):
        GgufFile(path)


@pytest.mark.parametrize("alignment", [0, 4, 24, 1 << 30])
def test_an_impossible_alignment_is_refused(tmp_path: Path, alignment: int) -> None:
    with pytest.raises(HerdError, match=f"general.alignment is {alignment}"):
        GgufFile(write(tmp_path / "a.gguf", {"general.alignment": alignment}))


def test_every_shorter_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf")
    needed = path.stat().st_size - padded(68) + 68  # the last tensor takes 68 bytes and its padding
    GgufFile(path)
    for length in reversed(range(needed)):
        os.truncate(path, length)
        with pytest.raises(HerdError, match=r"a\.gguf: "):
            GgufFile(path)


def test_what_is_asked_for_must_be_there_and_of_its_kind(tmp_path: Path) -> None:
    file = GgufFile(write(tmp_path / "a.gguf"))
    assert file.get("a.real", float) == 0.5
    assert file.get("a.whole", float) == 7.0
    assert file.get("not.there", int, 3) == 3
    for key, kind, sentence in (
        ("not.there", int, "the metadata key not.there is missing"),
        ("a.flag", int, "a.flag holds bool, int is needed"),
        ("a.whole", str, "a.whole holds int, str is needed"),
    ):
        with pytest.raises(HerdError, match=sentence):
            file.get(key, kind)


def test_no_file_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match="not readable"):
        GgufFile(tmp_path / "absent.gguf")
    (tmp_path / "empty.gguf").touch()
    with pytest.raises(HerdError, match="is empty"):
        GgufFile(tmp_path / "empty.gguf")
