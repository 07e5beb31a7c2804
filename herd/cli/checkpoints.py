"""The verb that carries checkpoints between formats: ``herd convert``."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from herd.cli.options import make
from herd.foundation.errors import HerdError

if TYPE_CHECKING:
    from herd.formats.convert import ConvertConfig


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="a Hugging Face directory, a directory of Meta's, or a GGUF file")
    ],
    out: Annotated[Path, typer.Argument(metavar="DST", help="the directory to make, or the file if it ends in .gguf")],
    to: Annotated[Literal["hf", "meta", "gguf"], typer.Option(help="the format to write")],
    type: Annotated[
        str | None,
        typer.Option(
            help="the weights' type: f32, bf16, f16, for gguf also q8_0, q6_k, q5_k, q4_k, q4_0; else as they are"
        ),
    ] = None,
    ranks: Annotated[int, typer.Option(min=1, help="meta: divide the tensors into so many files")] = 1,
    shard_bytes: Annotated[int, typer.Option(min=1, help="hf: the most that one file holds")] = 5_000_000_000,
    tokenizer: Annotated[
        bool, typer.Option("--tokenizer/--without-tokenizer", help="whether the tokenizer goes along")
    ] = True,
) -> None:
    """Convert a checkpoint: Hugging Face, Meta, GGUF.

    From each to each, tensor by tensor.
    """
    from herd.formats.convert import GGUF_SUFFIX, ConvertConfig
    from herd.formats.convert import convert as stage

    config = ConvertConfig(to=to, type=type, ranks=ranks, shard_bytes=shard_bytes, tokenizer=tokenizer)
    if out.suffix == GGUF_SUFFIX:
        if to != "gguf":
            raise HerdError(f"{out}: --to {to} makes a directory; give it another name, or say --to gguf")
        _convert_to_file(config, source, out)
        return
    make("convert", config, {"source": source}, out, lambda place, progress: stage(config, source, place, progress))


def _convert_to_file(config: "ConvertConfig", source: Path, out: Path) -> None:
    """As a stage is made alone, but for a single file, which has no room for a manifest.

    A mistake leaves nothing; from what a full disk or a kill leaves the same command goes on.
    """
    from herd.formats.convert import convert as stage
    from herd.foundation.progress import Progress
    from herd.pipeline.alone import holding
    from herd.pipeline.disk import naming_a_full_disk
    from herd.pipeline.lock import exclusive

    if out.exists():
        raise HerdError(f"{out}: is already there; remove it, or name another place")
    started = time.monotonic()
    holder = out.absolute().parent / f".{out.name}.partial"
    with exclusive(holder), holding(holder):
        with naming_a_full_disk(out):
            stage(config, source, holder / out.name, Progress(sys.stderr))
        (holder / out.name).replace(out)
    print(f"{out}: made in {time.monotonic() - started:.1f} s")
