"""Whether a finished run still is what is asked for, told without loading what trains.

    sentence = still_stands(Path("pocket.yaml"), overrides, progress)   # None: look properly, or run

A run that ended leaves ``standing.json``: what was asked (the recipe's values, Herd's code, the interpreter), what lay
outside, and the fingerprint and the digest of every artifact.  While question and surroundings are the same, every
stage's fingerprint would come out the same again; so it is enough to compare manifests and files, which takes a second,
where the classes of a whole recipe bring torch with them.  Whatever differs is left to the graph, which says what.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from herd.corpus.collect import PagesConfig
from herd.foundation.errors import HerdError
from herd.foundation.files import digest_value, read_json, write_json
from herd.foundation.progress import Progress
from herd.pipeline.lock import exclusive
from herd.pipeline.manifest import FILE as MANIFEST
from herd.pipeline.manifest import Manifest, environment
from herd.pipeline.outside import surroundings
from herd.pipeline.sources import installed, remark
from herd.pipeline.yaml_file import read_yaml

FILE = "standing.json"
PLAN = "plan.json"


def question(file: Path, overrides: Sequence[str]) -> str:
    """A digest of everything but the surroundings that decides what a recipe's graph is."""
    return digest_value([read_yaml(file, overrides), installed(), environment()])


def note_standing(
    output: Path,
    asked: str,
    looked_at: tuple[PagesConfig, Sequence[str]],
    outside: Mapping[str, str],
    names: Sequence[str],
) -> None:
    """Writes down that the artifacts ``names`` of ``output`` answer the question ``asked``.

    ``looked_at`` are the arguments of ``surroundings``.  ``outside`` is what the stages themselves say lies outside;
    where that is more than is looked at here, nothing is written, and every run looks properly.
    """
    if dict(outside) != surroundings(*looked_at):
        return
    pages, blocklists = looked_at
    write_json(output / FILE, {
        "asked": asked,
        "pages": pages.model_dump(mode="json"),
        "blocklists": list(blocklists),
        "outside": dict(outside),
        "plan": read_json(output / PLAN)["recipe"],
        "artifacts": {name: _name_of(Manifest.read(output / name)) for name in names},
    })  # fmt: skip


def still_stands(file: Path, overrides: Sequence[str], progress: Progress) -> str | None:
    """The sentence that there is nothing to do; None where there is, or may be.

    Raises ``HerdError`` where another process writes the run, and for a file or an override that cannot be read.
    """
    started = time.monotonic()
    output = Path(str(read_yaml(file, overrides).get("output", "")))
    if not (output / FILE).is_file():
        return None
    with exclusive(output):
        names = _standing(output, question(file, overrides))
        if names is None:
            return None
        if older := remark(output, names):
            progress.say(older)
    return nothing_to_do(output, len(names), time.monotonic() - started)


def nothing_to_do(output: Path, stages: int, seconds: float) -> str:
    """The sentence."""
    return f"{output}: nothing to do, all {stages} stages are up to date ({seconds:.1f} s)"


def _standing(output: Path, asked: str) -> list[str] | None:
    """The names of the artifacts where all of them answer the question, else None."""
    try:
        noted = read_json(output / FILE)
        pages = PagesConfig.model_validate(noted["pages"])
        if noted["asked"] != asked or noted["outside"] != surroundings(pages, noted["blocklists"]):
            return None
        if read_json(output / PLAN)["recipe"] != noted["plan"]:
            return None
        unchanged = all(_is_whole(output / name, known) for name, known in noted["artifacts"].items())
    except (HerdError, ValidationError, KeyError, TypeError):  # the graph says what is wrong with it
        return None
    return list(noted["artifacts"]) if unchanged and is_published(output, list(noted["artifacts"])) else None


def _is_whole(artifact: Path, known: Any) -> bool:
    manifest = Manifest.read(artifact)
    return manifest is not None and _name_of(manifest) == known and manifest.changed_file(artifact) is None


def _name_of(manifest: Manifest | None) -> list[str]:
    """What decides whether an artifact is the one that was noted."""
    return [manifest.fingerprint, manifest.digest] if manifest is not None else []


def is_published(output: Path, stages: Sequence[str]) -> bool:
    """Whether figures and report are younger than every artifact: a run may be killed between the last and them."""
    published = [output / "results.json", output / "report.html"]
    if not all(path.exists() for path in published):
        return False
    oldest = min(path.stat().st_mtime_ns for path in published)
    return all((output / stage / MANIFEST).stat().st_mtime_ns <= oldest for stage in stages)
