"""Headers that we lay out, as the library of the format reads them."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from herd.formats.huggingface import save_model
from herd.formats.safetensors_file import describe, lay_out
from herd.formats.tensors import TensorInfo, raw_bytes
from tests.formats.small import assert_same_weights, small_transformer, to, weights

TYPES = (torch.bfloat16, torch.float32, torch.float16)


def test_the_library_reads_what_we_lay_out(tmp_path: Path) -> None:
    tensors = {f"t{place}": torch.randn(3, place + 1).to(TYPES[place % 3]) for place in range(7)}
    start, offsets, size = lay_out({name: TensorInfo(tuple(x.shape), x.dtype) for name, x in tensors.items()})
    file = tmp_path / "x.safetensors"
    file.write_bytes(start + bytes(size - len(start)))
    with file.open("r+b") as out:
        for name, tensor in tensors.items():
            assert offsets[name] % tensor.dtype.itemsize == 0
            out.seek(offsets[name])
            out.write(raw_bytes(tensor))
    with safe_open(file, framework="pt") as source:
        assert source.metadata() == {"format": "pt"}
        assert all(torch.equal(source.get_tensor(name), tensor) for name, tensor in tensors.items())
    assert describe(file) == {name: TensorInfo(tuple(x.shape), x.dtype) for name, x in tensors.items()}


def test_one_model_may_be_of_several_types(tmp_path: Path) -> None:
    start = tmp_path / "start"
    save_model(small_transformer(), None, start)
    mixed = {name: x if x.ndim == 1 else x.bfloat16() for name, x in weights(start).items()}
    save_file(mixed, start / "model.safetensors", metadata={"format": "pt"})
    for form, name in (("hf", "cut"), ("meta", "meta")):
        assert_same_weights(to("hf", to(form, start, tmp_path / name), tmp_path / f"{name} back"), start)
    assert json.loads((tmp_path / "cut" / "config.json").read_text())["torch_dtype"] == "bfloat16"
