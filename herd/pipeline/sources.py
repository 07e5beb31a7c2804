"""Which code of Herd made an artifact, and whether that is the code that is installed.

A finished stage does not run again because Herd's code was changed: most changes change no result, and which do only
their author knows.  So every manifest holds a digest of each room's files, and a run says which finished artifacts were
made before a room was changed.  ``remark(output, stages)`` is that sentence; removing an artifact makes it again.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import herd
from herd.foundation.files import digest_file, digest_value
from herd.pipeline.manifest import Manifest

# Rooms that only show or serve what is there, and recipes, whose every key is compared anyway.
_MAKE_NOTHING = {"cli", "report", "serve", "recipes", "__pycache__"}
_NAMED = 4


def digests(package: Path) -> dict[str, str]:
    """A digest of the files of every room below ``package`` that can change an artifact."""
    rooms = sorted(path for path in package.iterdir() if path.is_dir() and path.name not in _MAKE_NOTHING)
    return {room.name: digest_value(_files(room)) for room in rooms}


def _files(room: Path) -> dict[str, str]:
    files = (path for path in sorted(room.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(room)): digest_file(path) for path in files}


@cache
def installed() -> dict[str, str]:
    """The rooms of the Herd that runs, as they were when this was asked first: what is edited later is not loaded."""
    return digests(Path(herd.__file__).parent)


def remark(output: Path, stages: Sequence[str]) -> str | None:
    """Which finished artifacts of ``stages`` other code made than is installed, in a sentence, or None."""
    now = installed()
    older: list[str] = []
    changed: set[str] = set()
    for stage in stages:
        manifest = Manifest.read(output / stage)
        before = manifest.sources if manifest is not None else {}
        rooms = {room for room, digest in before.items() if now.get(room) != digest}
        older += [stage] * bool(rooms)
        changed |= rooms
    if not older:
        return None
    places = ", ".join(f"herd/{room}" for room in sorted(changed))
    names = ", ".join(older[:_NAMED]) + (f" and {len(older) - _NAMED} more" if len(older) > _NAMED else "")
    return f"{names}: made before {places} changed; kept while recipe and inputs fit, made again where removed"
