"""Portions of pages that are prepared once, however often a curation is killed: what is done is told by a small file.

    begin(work, plan)                                    # empties work, unless it holds portions of the same plan
    tally = prepare_once(portion, config, out=work, ...)

A portion is done when its counts lie beside its documents, which is the last that is written of it.
"""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from herd.corpus.prepare import Portion, PrepareConfig, Tally, prepare_portion
from herd.foundation.files import read_json, write_json

_PLAN = "plan.json"
_OF_PORTIONS = ("documents-", "signatures-", "rejects-", "tally-", _PLAN)


def begin(work: Path, plan: str) -> None:
    """Makes ``work`` hold nothing but finished portions of this ``plan``, a digest of all that they depend on."""
    if not (work / _PLAN).exists() or read_json(work / _PLAN) != plan:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_json(work / _PLAN, plan)
        return
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif not path.name.startswith(_OF_PORTIONS):
            path.unlink()


def prepare_once(portion: Portion, config: PrepareConfig, out: Path, schema: pa.Schema, rejects: pa.Schema) -> Tally:
    """As ``prepare_portion``, which is called where the portion is not there yet."""
    path = out / f"tally-{portion.number:05d}.json"
    if path.exists():
        return _read(read_json(path))
    tally = prepare_portion(portion, config, out, schema, rejects)
    write_json(path, tally.__dict__)
    return tally


def _read(found: dict[str, Any]) -> Tally:
    return Tally(
        kept=Counter(found["kept"]),
        characters=Counter(found["characters"]),
        removed={step: Counter(reasons) for step, reasons in found["removed"].items()},
        private=Counter(found["private"]),
        seconds=found["seconds"],
        repeated_lines=found["repeated_lines"],
    )
