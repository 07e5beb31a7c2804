"""Runs stages in order, each at most once for the same work, and leaves every artifact whole or absent.

A stage works in ``RUN/.partial/NAME`` and moves to ``RUN/NAME`` when it is done.  Killed at any moment, the next
run finds the partial directory; when its fingerprint still matches, the stage goes on from what it finds there, and
the seconds and the memory of the killed one count (``spent``).
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from herd.foundation.errors import HerdError
from herd.foundation.files import finish_directory, write_text
from herd.foundation.progress import Progress
from herd.pipeline.disk import naming_a_full_disk
from herd.pipeline.manifest import FINGERPRINT_FILE, Manifest, content_digest, describe_files, environment, fingerprint
from herd.pipeline.sources import installed
from herd.pipeline.spent import Spent

PARTIAL = ".partial"

StageFunction = Callable[[Mapping[str, Path], Path, Progress], None]


@dataclass(frozen=True)
class Stage:
    """One node of the graph.

    ``run(inputs, out, progress)`` fills the directory ``out``; ``inputs`` maps a role to another stage's name;
    ``config`` and ``outside`` are everything else that decides the result.  ``whole_machine`` says that the stage
    uses every core by itself, so that nothing should run beside it.
    """

    name: str
    run: StageFunction
    config: dict[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    outside: Callable[[], dict[str, str]] = dict
    whole_machine: bool = False


@dataclass(frozen=True)
class Outcome:
    """What happened to a stage: whether it ran, and why."""

    stage: str
    ran: bool
    reason: str
    seconds: float


@dataclass(frozen=True)
class Todo:
    """A stage that must run: the reason in words, the digests of its inputs by role, what lies outside."""

    stage: Stage
    reason: str
    inputs: dict[str, str]
    outside: dict[str, str]

    def make(self, directory: Path, progress: Progress) -> Manifest:
        """Runs the stage in ``directory``, whose artifacts it reads."""
        name = self.stage.name
        paths = {role: directory / needed for role, needed in self.stage.inputs.items()}
        partial = directory / PARTIAL / name
        return make_artifact(self.stage, paths, self.inputs, self.outside, partial, directory / name, progress)


def check_order(stages: Sequence[Stage]) -> None:
    """Refuses a graph in which a name comes twice or a stage needs one that does not come before it."""
    seen: set[str] = set()
    for stage in stages:
        if stage.name in seen:
            raise HerdError(f"stage {stage.name}: the name is used twice")
        for role, needed in stage.inputs.items():
            if needed not in seen:
                raise HerdError(f"stage {stage.name}: its input {role} is {needed}, which no earlier stage makes")
        seen.add(stage.name)


def run_graph(stages: Sequence[Stage], directory: Path, progress: Progress) -> list[Outcome]:
    """Brings every artifact of ``directory`` up to date with ``stages``, one by one; returns what ran and why."""
    open_directory(stages, directory)
    digests: dict[str, str] = {}
    outcomes = []
    for number, stage in enumerate(stages, start=1):
        found = look(stage, directory, digests)
        if isinstance(found, Todo):
            progress.say(f"[{number}/{len(stages)}] {stage.name}: {found.reason}")
            manifest = found.make(directory, progress)
            outcomes.append(Outcome(stage.name, True, found.reason, manifest.seconds))
        else:
            manifest = found
            outcomes.append(Outcome(stage.name, False, "up to date", manifest.seconds))
        digests[stage.name] = manifest.digest
    return outcomes


def open_directory(stages: Sequence[Stage], directory: Path) -> None:
    """Makes sure that ``stages`` are in order and that nothing torn lies in ``directory``."""
    check_order(stages)
    directory.mkdir(parents=True, exist_ok=True)
    _sweep(directory)


def look(stage: Stage, directory: Path, digests: Mapping[str, str]) -> Todo | Manifest:
    """What there is to do for a stage whose inputs have ``digests``, or the manifest of its artifact."""
    inputs = {role: digests[name] for role, name in stage.inputs.items()}
    outside = stage.outside()
    existing = Manifest.read(directory / stage.name)
    reason = reason_to_run(stage, existing, inputs, outside, directory / stage.name)
    if existing is not None and reason is None:
        return existing
    return Todo(stage, reason or "to do", inputs, outside)


def make_artifact(
    stage: Stage,
    paths: Mapping[str, Path],
    inputs: Mapping[str, str],
    outside: dict[str, str],
    partial: Path,
    final: Path,
    progress: Progress,
) -> Manifest:
    """Runs a stage in ``partial``, going on from what an interrupted call left there, and moves it to ``final``.

    ``paths`` and ``inputs`` map each role to the input's place and to its digest.  A full disk is a ``HerdError``.
    """
    wanted = fingerprint(stage.config, dict(inputs), outside)
    record = partial.with_name(f"{partial.name}.spent.json")
    _prepare(partial, wanted, record)
    with naming_a_full_disk(final), Spent(record) as spent:
        stage.run(paths, partial, progress)
    files = describe_files(partial)
    manifest = Manifest(
        stage=stage.name,
        fingerprint=wanted,
        digest=content_digest(files),
        config=stage.config,
        inputs={role: {"stage": stage.inputs[role], "digest": digest} for role, digest in inputs.items()},
        outside=outside,
        files=files,
        seconds=spent.seconds,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        peak_memory_bytes=spent.peak_bytes,
        environment=environment(),
        sources=installed(),
    )
    manifest.write(partial)
    finish_directory(partial, final)
    record.unlink(missing_ok=True)
    return manifest


def _sweep(directory: Path) -> None:
    """Removes what a killed run left between two renames; the lock makes sure that nobody is using it."""
    for path in directory.glob(".*.old"):
        shutil.rmtree(path, ignore_errors=True)


def _prepare(partial: Path, wanted: str, record: Path) -> None:
    """Makes the working directory of a stage, keeping what an interrupted run of the same work left there.

    What a kill left of a file that was just being written goes: it would be taken for a part of the artifact.
    """
    mark = partial / FINGERPRINT_FILE
    for torn in sorted(partial.rglob(".*.tmp"), reverse=True):
        shutil.rmtree(torn) if torn.is_dir() else torn.unlink()
    if not (mark.exists() and mark.read_text(encoding="utf-8") == wanted):
        shutil.rmtree(partial, ignore_errors=True)
        record.unlink(missing_ok=True)
        partial.mkdir(parents=True)
        write_text(mark, wanted)


def reason_to_run(
    stage: Stage, existing: Manifest | None, inputs: dict[str, str], outside: dict[str, str], final: Path
) -> str | None:
    """Why the stage must run, in words, or None when its artifact is up to date."""
    if existing is None:
        return "to do"
    if existing.fingerprint != fingerprint(stage.config, inputs, outside):
        return "again, since " + (" and ".join(_drift(existing, stage, inputs, outside)) or "Herd's version changed")
    changed = existing.changed_file(final)
    return f"again, since {changed} in it was changed or removed" if changed else None


def _drift(existing: Manifest, stage: Stage, inputs: dict[str, str], outside: dict[str, str]) -> list[str]:
    reasons = [
        f"its input {role} changed"
        for role, digest in inputs.items()
        if existing.inputs.get(role, {}).get("digest") != digest
    ]
    reasons += [f"{name} changed" for name, value in outside.items() if existing.outside.get(name) != value]
    reasons += [f"{key} changed" for key in _changed_keys(existing.config, stage.config)]
    return reasons


def _changed_keys(before: Any, after: Any, path: str = "") -> list[str]:
    """The dotted keys whose values differ between two configurations."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*after, *(key for key in before if key not in after)]
        return [
            found
            for key in keys
            for found in _changed_keys(before.get(key), after.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if before == after else [path]
