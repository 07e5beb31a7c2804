"""Conversion as a whole: bit-exact round trips, going on after a kill, the command line, sources that are refused."""

import json
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from herd.cli import app
from herd.formats import mapped, regions
from herd.formats.convert import ConvertConfig, open_source
from herd.formats.gguf.writer import GgufSink
from herd.formats.huggingface import load_model, save_model
from herd.formats.huggingface_sink import HuggingFaceSink
from herd.formats.huggingface_source import HuggingFaceSource
from herd.formats.meta.writer import MetaSink
from herd.formats.tensors import TensorSink, expected_shapes, move_tensors
from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.tokenizer.bpe import train_bpe
from tests.formats.small import assert_same_weights, small_config, small_transformer, to, weights

WEIGHTS = "model.safetensors"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["f32", "bf16", "f16"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_there_and_back_every_bit_is_the_same(tmp_path: Path, dtype: torch.dtype, tied: bool) -> None:
    start = tmp_path / "start"
    save_model(small_transformer(tied), None, start, dtype)
    meta = to("meta", start, tmp_path / "meta", ranks=2)
    one = to("meta", meta, tmp_path / "one")
    gguf = to("gguf", one, tmp_path / "model.gguf")
    back = to("hf", gguf, tmp_path / "back", shard_bytes=50_000)
    assert_same_weights(start, back)
    assert load_model(back).config == load_model(start).config


@pytest.mark.parametrize("kind", ["hf", "reward"])
def test_a_directory_is_cut_into_shards_and_put_together(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    source = request.getfixturevalue(kind)
    cut = to("hf", source, tmp_path / "cut", shard_bytes=60_000)
    files = sorted(file.name for file in cut.glob("*.safetensors"))
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert len(files) > 3
    assert all((cut / file).stat().st_size < 60_000 + 4096 or len(load_file(cut / file)) == 1 for file in files)
    index = json.loads((cut / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in weights(source).values())
    assert_same_weights(cut, source)
    assert type(load_model(cut)) is type(load_model(source))
    whole = to("hf", cut, tmp_path / "whole")
    assert_same_weights(whole, source)
    assert {file.name for file in whole.iterdir()} == {file.name for file in source.iterdir()}


@pytest.mark.parametrize("kind", ["hf", "reward"])
def test_transformers_reads_the_shards(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    source = request.getfixturevalue(kind)
    cut = to("hf", source, tmp_path / "cut", shard_bytes=60_000)
    auto = transformers.AutoModelForCausalLM if kind == "hf" else transformers.AutoModelForSequenceClassification
    theirs = dict(auto.from_pretrained(cut, dtype=torch.float32).named_parameters())
    assert all(torch.equal(theirs[name], tensor) for name, tensor in weights(source).items())


def test_the_shapes_are_those_of_the_network(hf: Path, reward: Path) -> None:
    for path in (hf, reward):
        source = HuggingFaceSource(path)
        shapes = {name: tuple(tensor.shape) for name, tensor in weights(path).items()}
        assert expected_shapes(source.config, source.reward) == shapes
    assert sum(
        torch.Size(shape).numel() for shape in expected_shapes(small_config(tied=True), reward=False).values()
    ) == (small_config(tied=True).parameters)


def test_the_type_changes_on_the_way(hf: Path, tmp_path: Path) -> None:
    half = to("hf", hf, tmp_path / "half", type="bf16")
    assert json.loads((half / "config.json").read_text())["torch_dtype"] == "bfloat16"
    for name, tensor in weights(half).items():
        assert torch.equal(tensor, weights(hf)[name].bfloat16())
    full = to("hf", to("meta", half, tmp_path / "meta", type="f32"), tmp_path / "full")
    for name, tensor in weights(full).items():
        assert torch.equal(tensor, weights(half)[name].float())


def test_old_releases_store_frequencies_and_a_tied_head(tmp_path: Path) -> None:
    start = tmp_path / "start"
    save_model(small_transformer(tied=True), None, start)
    stored = load_file(start / WEIGHTS)
    more = {
        "lm_head.weight": stored["model.embed_tokens.weight"].clone(),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
    }
    save_file(stored | more, start / WEIGHTS)
    assert weights(to("hf", start, tmp_path / "out")).keys() == stored.keys()


def test_the_chat_template_of_a_directory_is_kept(hf: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(hf, own)
    (own / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert open_source(own).tokenizer.chat_template == "{{ messages[0].content }}"  # type: ignore[union-attr]
    out = to("hf", own, tmp_path / "out")
    assert (out / "chat_template.jinja").read_text() == "{{ messages[0].content }}"
    through = to("hf", to("gguf", own, tmp_path / "model.gguf"), tmp_path / "through")
    assert json.loads((through / "tokenizer_config.json").read_text())["chat_template"] == "{{ messages[0].content }}"


def test_mapped_pages_do_not_add_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(mapped, "_MAPPED_BYTES", 100)
    files = mapped.MappedFiles(lambda file: opened.append(file) or file)
    for file, nbytes in (("a", 60), ("a", 40), ("a", 1), ("b", 99), ("b", 500), ("a", 1)):
        files.get(Path(file), nbytes)
    assert [file.name for file in opened] == ["a", "a", "b", "b", "a"]


class Interrupted(Exception):  # noqa: N818 - no error, a stand-in for the end of the process
    """The process ends here."""


class Interruptible(HuggingFaceSource):
    """A source that ends the process after so many tensors, and counts what was read."""

    def __init__(self, path: Path, last: int) -> None:
        super().__init__(path)
        self.last, self.names = last, []

    def read(self, name: str) -> torch.Tensor:
        if len(self.names) == self.last:
            raise Interrupted
        self.names.append(name)
        return super().read(name)


SINKS: dict[str, Callable[[Path], TensorSink]] = {
    "hf": lambda out: HuggingFaceSink(out, shard_bytes=60_000),
    "meta": lambda out: MetaSink(out, ranks=2),
    "gguf": lambda out: GgufSink(out / "model.gguf", "f32"),
}


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


@pytest.mark.parametrize("form", SINKS)
@pytest.mark.parametrize("last", [0, 1, 11, 20])
def test_an_interrupted_conversion_goes_on(
    hf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, last: int
) -> None:
    monkeypatch.setattr(regions, "_FLUSH_BYTES", 1)
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        move_tensors(Interruptible(hf, last), SINKS[form](out), Progress.silent())
    assert all(name.startswith(".") for name in contents(out))
    second = Interruptible(hf, 1000)
    move_tensors(second, SINKS[form](out), Progress.silent())
    assert len(second.names) == len(second.tensors) - last
    move_tensors(HuggingFaceSource(hf), SINKS[form](tmp_path / "at once"), Progress.silent())
    assert contents(out) == contents(tmp_path / "at once")


@pytest.mark.parametrize("form", SINKS)
def test_what_another_source_left_is_not_gone_on_from(
    hf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(regions, "_FLUSH_BYTES", 1)
    with pytest.raises(Interrupted):
        move_tensors(Interruptible(hf, 12), SINKS[form](tmp_path / "out"), Progress.silent())
    other = tmp_path / "other"
    shutil.copytree(hf, other)
    tensors = {name: tensor + 1 for name, tensor in load_file(hf / WEIGHTS).items()}
    save_file(tensors, other / WEIGHTS, metadata={"format": "pt"})
    second = Interruptible(other, 1000)
    move_tensors(second, SINKS[form](tmp_path / "out"), Progress.silent())
    assert len(second.names) == len(second.tensors)


KILLED = """
    import os, signal, sys
    from herd.cli import main
    from herd.formats import regions
    regions._FLUSH_BYTES = 1
    write, written = regions.RegionFiles.write, []
    def counted(self, key, *rest, **named):
        if len(written) == 15:
            os.kill(os.getpid(), signal.SIGKILL)
        written.append(key)
        write(self, key, *rest, **named)
    regions.RegionFiles.write = counted
    sys.argv = ["herd", *sys.argv[1:]]
    main()
"""


@pytest.mark.parametrize(("form", "name"), [("meta", "made"), ("gguf", "made.gguf")])
def test_a_killed_command_goes_on_where_it_was(
    hf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["convert", str(hf), name, "--to", form]
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), *line], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / name).exists()
    read: list[str] = []
    whole = HuggingFaceSource.read
    monkeypatch.setattr(HuggingFaceSource, "read", lambda self, name: read.append(name) or whole(self, name))
    assert CliRunner().invoke(app, line).exit_code == 0
    assert 0 < len(read) < len(HuggingFaceSource(hf).tensors)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert_same_weights(to("hf", tmp_path / name, tmp_path / "back"), hf)


def refused(*line: object) -> str:
    """The one sentence of a refusal."""
    result = CliRunner().invoke(app, ["convert", *map(str, line)])
    assert result.exit_code == 2, result.output
    sentence = result.stderr.splitlines()[-1]
    assert sentence.startswith("herd: ")
    assert "Traceback" not in result.output
    return sentence


def test_the_command_leads_through_all_formats(hf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in (
        (hf, "meta", "--to", "meta", "--type", "bf16", "--ranks", "2"),
        ("meta", "model.gguf", "--to", "gguf"),
        ("model.gguf", "folder", "--to", "gguf"),
        ("folder", "back", "--to", "hf", "--type", "f32"),
    ):
        result = CliRunner().invoke(app, ["convert", *map(str, line)])
        assert result.exit_code == 0, (line, result.output)
    assert (
        "nothing to do" in CliRunner().invoke(app, ["convert", "folder", "back", "--to", "hf", "--type", "f32"]).output
    )
    for name, tensor in weights(tmp_path / "back").items():
        assert torch.equal(tensor, weights(hf)[name].bfloat16().float()), name
    origin = CliRunner().invoke(app, ["lineage", "back"]).output
    assert "source: folder" in origin
    assert {file.name for file in tmp_path.iterdir()} == {"meta", "model.gguf", "folder", "back"}
    assert "model.gguf: is already there" in refused("meta", "model.gguf", "--to", "gguf")


def test_mistakes_on_the_command_line(hf: Path, reward: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "nowhere: there is no such file" in refused("nowhere", "out", "--to", "hf")
    assert "nowhere: there is no such file" in refused("nowhere", "out.gguf", "--to", "gguf")
    assert "empty: is no model, it holds no config.json" in refused("empty", "out", "--to", "meta")
    assert "--type: hf is not written as 'q8_0'; the types are f32, bf16, f16" in refused(
        hf, "out", "--to", "hf", "--type", "q8_0"
    )
    assert "out.gguf: --to hf makes a directory" in refused(hf, "out.gguf", "--to", "hf")
    assert "is a reward model" in refused(reward, "out", "--to", "meta")
    assert "a reward model" in refused(reward, "out.gguf", "--to", "gguf")
    assert CliRunner().invoke(app, ["convert", str(hf), "out", "--to", "onnx"]).exit_code == 2
    assert [file.name for file in tmp_path.iterdir()] == ["empty"]


def _change(tensors: dict[str, torch.Tensor], what: str) -> None:
    norm = "model.layers.1.input_layernorm.weight"
    if what == "nan":
        tensors["lm_head.weight"][-1, -1] = float("nan")
    elif what == "missing":
        del tensors[norm]
    elif what == "shape":
        tensors[norm] = torch.ones(63)
    else:
        tensors["model.layers.0.mlp.up_proj.weight"][5, 5] = 1e6


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("nan", "model.safetensors: tensor lm_head.weight holds values that are not finite"),
        ("missing", "bad: tensor model.layers.1.input_layernorm.weight is missing"),
        (
            "shape",
            "bad: tensor model.layers.1.input_layernorm.weight has shape (63,), the configuration asks for (64,)",
        ),
        ("large", "tensor model.layers.0.mlp.up_proj.weight holds values that are"),
    ],
)
@pytest.mark.parametrize("line", [("out", "--to", "hf"), ("out", "--to", "meta"), ("out.gguf", "--to", "gguf")])
def test_a_bad_source_leaves_nothing(
    hf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, sentence: str, line: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(hf, "bad")
    tensors = load_file(f"bad/{WEIGHTS}")
    _change(tensors, what)
    save_file(tensors, f"bad/{WEIGHTS}")
    assert sentence in refused("bad", *line, "--type", "f16")
    assert [file.name for file in tmp_path.iterdir()] == ["bad"]


def test_a_template_that_is_no_text_is_named(hf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(hf, "bad")
    Path("bad/chat_template.jinja").write_bytes(b"\xff{{ messages }}")
    assert "bad/chat_template.jinja: is not UTF-8 text" in refused("bad", "out.gguf", "--to", "gguf")
    assert [file.name for file in tmp_path.iterdir()] == ["bad"]


def test_half_written_directories_are_named(hf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    to("hf", hf, tmp_path / "cut", shard_bytes=60_000)
    third = sorted((tmp_path / "cut").glob("*.safetensors"))[2]
    held = next(iter(load_file(third)))
    whole = third.read_bytes()
    third.write_bytes(whole[:-100])
    assert f"cut/{third.name}: not readable as safetensors" in refused("cut", "out", "--to", "meta")
    third.unlink()
    sentence = refused("cut", "out", "--to", "meta")
    assert f"cut/{third.name}: is missing, the index places tensor model." in sentence
    assert held.startswith("model.")
    save_file({"other": torch.ones(1)}, third)
    assert "is missing, though the index places it there" in refused("cut", "out", "--to", "meta")
    index = tmp_path / "cut" / "model.safetensors.index.json"
    raw = json.loads(index.read_text())
    index.write_text(json.dumps({"weight_map": raw["weight_map"] | {"lm_head.weight": "../outside"}}))
    assert "'../outside', which is not a file's name" in refused("cut", "out", "--to", "meta")
    (tmp_path / "cut" / "config.json").unlink()
    assert "cut: is no model, it holds no config.json" in refused("cut", "out", "--to", "meta")
    assert [file.name for file in tmp_path.iterdir()] == ["cut"]


@pytest.mark.parametrize("line", [("out", "--to", "hf"), ("out", "--to", "meta"), ("out.gguf", "--to", "gguf")])
def test_a_tokenizer_of_another_size_is_refused(
    hf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(hf, "bad")
    train_bpe(["aaaa aaaa"], 513).save("bad")
    sentence = refused("bad", *line)
    assert "bad: the tokenizer has 513 tokens, the embedding (model.embed_tokens.weight) 512 rows" in sentence
    assert [file.name for file in tmp_path.iterdir()] == ["bad"]
    assert CliRunner().invoke(app, ["convert", "bad", *line, "--without-tokenizer"]).exit_code == 0


def test_the_configuration_of_a_conversion_is_strict() -> None:
    with pytest.raises(ValueError, match="ranks"):
        ConvertConfig(to="meta", ranks=0)


def test_two_gguf_files_are_not_chosen_from(hf: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        to("gguf", hf, tmp_path / f"{name}.gguf")
    with pytest.raises(HerdError, match=r"holds 2 GGUF files; name one of them, such as .*a\.gguf"):
        open_source(tmp_path)
