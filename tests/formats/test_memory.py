"""Converting takes memory of the order of the largest tensor, whatever the size of the model."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "convert_memory.py"
SHAPE = ("--layers", "6", "--vocab", "16384")  # 0.86 GB, largest tensor 67 MB


@pytest.mark.slow
def test_the_peak_does_not_grow_with_the_model(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH), *SHAPE, "--only", "meta", "--scratch", str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    largest = float(re.findall(r"largest tensor (\d+) MB", said)[0])
    idle = float(re.findall(r"idle: (\d+) MB", said)[0])
    peaks = [float(peak) for peak in re.findall(r"peak (\d+) MB", said)]
    assert len(peaks) == 4
    assert said.count("the same bytes") == 2
    assert max(peaks) < idle + 4 * largest, said
