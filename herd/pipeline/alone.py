"""Makes one artifact alone, from files of one's own: what every verb for a single stage does.

    make_alone("sft", config, {"base": base, "dialogues": file}, out, run, progress)

It is made as in a run: whole or absent, with a manifest, and an interrupted call goes on.  An input that is a finished
artifact keeps its place in the lineage; any other file or directory is named in it with its digest.  Until the artifact
is done it lies in a hidden directory beside its place, under a lock.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from herd.foundation.config import Config
from herd.foundation.errors import HerdError, UnfinishedError
from herd.foundation.files import digest_file
from herd.foundation.progress import Progress
from herd.pipeline.disk import naming_a_full_disk
from herd.pipeline.graph import Stage, make_artifact, reason_to_run
from herd.pipeline.lock import exclusive
from herd.pipeline.manifest import FINGERPRINT_FILE, Manifest, content_digest, describe_files, fingerprint

Work = Callable[[Path, Progress], None]


def make_alone(
    verb: str,
    config: Config,
    inputs: Mapping[str, Path],
    out: Path,
    run: Work,
    progress: Progress,
    outside: Mapping[str, str] | None = None,
) -> bool:
    """Fills ``out`` by ``run(directory, progress)``; False where it already holds the result of the same call.

    ``outside`` names what else the result depends on.  Raises ``HerdError`` for a missing input, and where ``out``
    or the place of the work holds anything else: what somebody made is never written over.
    """
    final = out.absolute()
    for role, path in inputs.items():
        if not path.exists():
            raise HerdError(f"{path}: there is no such file or directory ({role} of herd {verb})")
    digests, known = _look_at(inputs)
    places = {role: os.path.relpath(inputs[role].resolve(), final.parent.resolve()) for role in digests}

    def work(paths: Mapping[str, Path], partial: Path, progress: Progress) -> None:
        run(partial, progress)

    stage = Stage(final.name, work, {"verb": verb, **config.model_dump(mode="json")}, places)
    known |= dict(outside or {})
    if not _is_free(stage, digests, known, out):
        return False
    holder = final.parent / f".{final.name}.partial"
    partial = holder / final.name
    with naming_a_full_disk(out), exclusive(holder):
        _check_left_over(partial, fingerprint(stage.config, digests, known), holder)
        with holding(holder):
            make_artifact(stage, inputs, digests, known, partial, final, progress)
    return True


def _check_left_over(partial: Path, wanted: str, holder: Path) -> None:
    """Days of another call's checkpoints are not thrown away because a setting was misspelt."""
    mark = partial / FINGERPRINT_FILE
    if mark.exists() and mark.read_text(encoding="utf-8") != wanted and len(list(partial.iterdir())) > 1:
        raise HerdError(
            f"{partial}: holds what an interrupted call with other settings or inputs left; repeat that call to go on "
            f"with it, or remove {holder} to begin anew"
        )


@contextmanager
def holding(holder: Path) -> Iterator[None]:
    """Empties the place of the work at the end, and after a mistake; from a trouble or a kill the next call goes on."""
    try:
        yield
    except UnfinishedError:
        raise
    except HerdError:
        shutil.rmtree(holder)
        raise
    shutil.rmtree(holder)


def _look_at(inputs: Mapping[str, Path]) -> tuple[dict[str, str], dict[str, str]]:
    """Digests of the inputs that are unchanged artifacts, by role; and the other ones, as path and digest."""
    digests: dict[str, str] = {}
    known: dict[str, str] = {}
    for role, path in inputs.items():
        manifest = Manifest.read(path) if path.is_dir() else None
        if manifest is not None and manifest.changed_file(path) is None:
            digests[role] = manifest.digest
        else:
            digest = content_digest(describe_files(path)) if path.is_dir() else digest_file(path)
            known[role] = f"{path} ({digest})"
    return digests, known


def _is_free(stage: Stage, digests: dict[str, str], known: dict[str, str], out: Path) -> bool:
    """Whether the artifact is to be made; False where it is there already, an error where something else is."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return True
    existing = Manifest.read(out) if out.is_dir() else None
    if existing is None:
        raise HerdError(f"{out}: is already there and was not made by Herd; name another place")
    reason = reason_to_run(stage, existing, digests, known, out)
    if reason is None:
        return False
    why = reason.removeprefix("again, since ")
    raise HerdError(f"{out}: holds the result of another call ({why}); remove it, or name another place")
