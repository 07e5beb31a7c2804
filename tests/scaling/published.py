"""Runs of other people that lie beside the project, for tests only; the tests skip where they are absent."""

import csv
from pathlib import Path

import pytest

from herd.scaling.laws import Point

SCALING = Path(__file__).parents[2].parent / "shared" / "data" / "scaling"
present = pytest.mark.skipif(not SCALING.exists(), reason="the published scaling runs are not on this machine")
ISOFLOPS = {
    "chinchilla": ("epochai_chinchilla", "dataset=massivetext"),
    "comma": ("marin_202603", "dataset=comma"),
    "dclm": ("marin_202603", "dataset=dclm"),
    "nemotron": ("marin_202603", "dataset=nemotron"),
    "fineweb-c4": ("misfitting", "dataset=fineweb_c4"),
}


def chinchilla() -> list[Point]:
    """The 245 runs of the Chinchilla figure; tokens follow from C = 6 N D."""
    with (SCALING / "epoch-chinchilla" / "svg_extracted_data.csv").open() as file:
        rows = [
            (float(row["Model Size"]), float(row["Training FLOP"]), float(row["loss"])) for row in csv.DictReader(file)
        ]
    return [Point(flops, size, flops / (6 * size), loss) for size, flops, loss in rows]


def isoflops(name: str) -> tuple[Path, str]:
    """A table of IsoFLOP runs, and the condition that takes this experiment out of it."""
    folder, condition = ISOFLOPS[name]
    return SCALING / "isoflops" / folder / "isoflops.csv", condition
