"""A training that is killed again and again, beside one that is not: the same tokens, the same losses.

    .venv/bin/python bench/soak.py --kills 50 --ranks 4                 # resumed on as many: bit for bit
    .venv/bin/python bench/soak.py --kills 50 --ranks 4 --resume 1,2,4  # resumed on others: within a tolerance
    .venv/bin/python bench/soak.py --kills 50 --place DIR               # kept there; called again, it goes on

A tiny network is trained on gloo processes of this machine (``tests/train/parallel/faulty_run.py``).  All processes are
killed with SIGKILL at a random moment, in the middle of a step or of a checkpoint, about every fourth step; a launch
goes on from the last whole checkpoint.  Ends with status 1 where a row of any launch differs from the unbroken run's.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from herd.foundation.files import read_json, read_jsonl, write_json

ROOT = Path(__file__).parents[1]
STEPS_A_KILL = 4


def plan(kills: int, ranks: int, resume: list[int], chance: random.Random) -> list[dict[str, Any]]:
    """The unbroken run, the killed launches, and the one that ends the killed run."""
    steps = STEPS_A_KILL * (kills + 2)
    launches: list[dict[str, Any]] = [{"ranks": ranks, "out": "whole", "steps": steps}]
    for kill in range(kills):
        step = STEPS_A_KILL * (kill + 1) + chance.randrange(STEPS_A_KILL)
        count = ranks if kill == 0 else chance.choice(resume)
        killed = {"ranks": count, "kill_past": step, "pause": round(chance.uniform(0.0, 0.15), 3)}
        launches.append({"out": "killed", "steps": steps, **killed})
    return [*launches, {"ranks": chance.choice(resume), "out": "killed", "steps": steps}]


def rows(out: Path, number: int) -> dict[int, list[str]]:
    """Digests of the rows of the steps of one launch that all its processes began."""
    steps: dict[int, list[str]] = {}
    files = sorted(out.glob(f"rows-{number}-*.txt"))
    notes = [dict(line.split(" ", 1) for line in file.read_text().splitlines()) for file in files]
    for step in set.intersection(*(set(note) for note in notes)) if notes else ():
        steps[int(step)] = [digest for note in notes for digest in note[step].split()]
    return steps


def main() -> None:
    """Runs the soak and prints what it found as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--resume", default="", help="processes to resume on, drawn among these; as many if left out")
    parser.add_argument("--seed", type=int, default=None, help="of the moments; drawn if left out")
    parser.add_argument("--place", type=Path, default=None, help="where the runs stay, to go on with a soak in pieces")
    options = parser.parse_args()
    resume = [int(count) for count in options.resume.split(",") if count] or [options.ranks]
    seed = int.from_bytes(os.urandom(4), "little") if options.seed is None else options.seed
    launches = plan(options.kills, options.ranks, resume, random.Random(seed))
    with nullcontext(options.place) if options.place else tempfile.TemporaryDirectory() as place:
        found = soak(Path(place), launches)
    print(json.dumps({"ranks": options.ranks, "resumed_on": resume, **found}, indent=2))
    raise SystemExit(0 if found["rows_that_differ"] == 0 and found["steps_missing"] == 0 else 1)


def soak(place: Path, launches: list[dict[str, Any]]) -> dict[str, Any]:
    """Makes the launches, or those left of an earlier call's, and compares."""
    place.mkdir(parents=True, exist_ok=True)
    if (place / "plan.json").exists():
        launches = read_json(place / "plan.json")
    write_json(place / "plan.json", launches)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = ROOT / "tests/train/parallel/faulty_run.py"
    subprocess.run([sys.executable, str(script), str(place), json.dumps(launches)], env=environment, check=True)
    return compare(place, launches)


def compare(place: Path, launches: list[dict[str, Any]]) -> dict[str, Any]:
    """The killed run beside the unbroken one."""
    results = read_json(place / "results.json")
    unbroken = rows(place / "whole", 0)
    seen = [rows(place / "killed", number) for number in range(1, len(launches))]
    losses = [[line["loss"] for line in read_jsonl(place / out / "metrics.jsonl")] for out in ("whole", "killed")]
    apart = [abs(one - other) / abs(one) for one, other in zip(*losses, strict=True)]
    return {
        "kills": sum(set(result["statuses"]) == {-9} for result in results),
        "steps": len(unbroken),
        "steps_taken": sum(len(launch) for launch in seen),
        "steps_missing": len(unbroken.keys() - set().union(*seen)),
        "rows_that_differ": sum(launch[step] != unbroken[step] for launch in seen for step in launch),
        "losses_bit_equal": losses[0] == losses[1],
        "largest_relative_difference": max(apart),
        "seconds": round(sum(result["seconds"] for result in results), 1),
    }


if __name__ == "__main__":
    main()
