"""Walks the manifests of a run from one artifact back to its sources: ``herd lineage runs/pocket/chat-900k``."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from herd.foundation.errors import HerdError
from herd.pipeline.manifest import Manifest


@dataclass(frozen=True)
class Ancestor:
    """One artifact on the way back; ``role`` is what it was to its user, ``stale`` why it may mislead."""

    depth: int
    role: str
    stage: str
    manifest: Manifest
    repeated: bool
    stale: str | None


def ancestors(artifact: Path) -> Iterator[Ancestor]:
    """Yields ``artifact`` and everything that it was made from, depth first; each artifact's own inputs come once."""
    directory = artifact.resolve()
    manifest = Manifest.read(directory)
    if not artifact.exists():
        raise HerdError(f"{artifact}: there is no such directory")
    if manifest is None:
        raise HerdError(f"{artifact}: not a finished artifact of a run, it holds no manifest.json")
    yield from _walk(directory, "", 0, None, set())


def _walk(directory: Path, role: str, depth: int, used_digest: str | None, seen: set[Path]) -> Iterator[Ancestor]:
    manifest = Manifest.read(directory)
    if manifest is None:
        raise HerdError(f"{directory}: is named as an input but is not there")
    stale = None
    if used_digest is not None and used_digest != manifest.digest:
        stale = "was made again after it had been used"
    elif changed := manifest.changed_file(directory):
        stale = f"{changed} was changed after it was made"
    yield Ancestor(depth, role, manifest.stage, manifest, directory in seen, stale)
    if directory in seen:
        return
    seen.add(directory)
    for name, entry in manifest.inputs.items():
        # An input is named by its place as seen from the run: beside the artifact, or on a path to elsewhere.
        yield from _walk((directory.parent / entry["stage"]).resolve(), name, depth + 1, entry["digest"], seen)


def descendants(artifact: Path) -> list[str]:
    """The artifacts beside ``artifact`` that were made from it, by way of others too, in the order of their making."""
    origin = artifact.resolve()
    beside = {path.parent.resolve() for path in origin.parent.glob("[!.]*/manifest.json")}
    made = {place: manifest for place in beside if (manifest := Manifest.read(place)) is not None}
    found = {origin}
    while new := {place for place, manifest in made.items() if found & _inputs(place, manifest)} - found:
        found |= new
    return [place.name for place in sorted(found - {origin}, key=lambda place: made[place].finished)]


def _inputs(place: Path, manifest: Manifest) -> set[Path]:
    return {(place.parent / entry["stage"]).resolve() for entry in manifest.inputs.values()}


def as_text(artifact: Path) -> str:
    """The lineage as an indented tree, one artifact a line."""
    lines = []
    for found in ancestors(artifact):
        what = f"{found.role}: " if found.role else ""
        note = "  (above)" if found.repeated else f"  {found.manifest.digest[:12]}  {found.manifest.finished}"
        outside = ", ".join(f"{key} {value}" for key, value in found.manifest.outside.items())
        tail = (f"  from {outside}" if outside and not found.repeated else "") + (
            f"  STALE: {found.stale}" if found.stale else ""
        )
        lines.append(f"{'  ' * found.depth}{what}{found.stage}{note}{tail}")
    return "\n".join(lines)
