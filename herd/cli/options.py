"""What the verbs share: their common options, and the way in which one stage is run alone."""

import errno
import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from herd.foundation.errors import HerdError, Interrupted, ToldError

if TYPE_CHECKING:
    from herd.foundation.config import Config
    from herd.foundation.progress import Progress
    from herd.train.parallel.launch import Alone

Settings = TypeVar("Settings", bound="Config")

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="the directory to make; whole when it is there")]
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="YAML with this stage's settings")]
Replicas = Annotated[
    int, typer.Option(min=1, help="under torchrun: copies of the weights, each cut over its part of the processes")
]
Patience = Annotated[float, typer.Option(min=1, help="under torchrun: seconds that one process may let others wait")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a setting; may be repeated")]

# What the file system refuses is the user's to mend; any other error of the system is a defect.
_MENDABLE = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.EMFILE,
}


def refusing(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with its errors told in one sentence and by the exit status, 2 for a mistake that the user can mend."""

    @functools.wraps(verb)
    def told(*arguments: Any, **options: Any) -> None:
        try:
            verb(*arguments, **options)
        except ToldError:
            raise SystemExit(2) from None
        except HerdError as error:
            _refuse(str(error))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                _refuse(f"{error.filename or 'the disk'}: no space left; free some and run the same command again")
            if error.errno not in _MENDABLE or not error.filename:
                raise
            _refuse(f"{error.filename}: {error.strerror}")
        except Interrupted as interruption:
            print(f"herd: {interruption}; the same command goes on from the last checkpoint", file=sys.stderr)
            raise SystemExit(interruption.status) from None
        except KeyboardInterrupt:
            print("interrupted; the same command goes on where this one was", file=sys.stderr)
            raise SystemExit(130) from None

    return told


def _refuse(sentence: str) -> None:
    print(f"herd: {sentence}", file=sys.stderr)
    raise SystemExit(2) from None


def read_settings(kind: "type[Settings]", config: Path | None, overrides: Sequence[str] | None) -> "Settings":
    """A stage's settings: its defaults, what the file says, what ``--set`` says."""
    from herd.pipeline.yaml_file import load_yaml

    return load_yaml(kind, config, overrides or [])


def numbered(role: str, paths: Sequence[Path]) -> dict[str, Path]:
    """One role for each path."""
    return {f"{role} {number}": path for number, path in enumerate(paths, start=1)}


def make(
    verb: str,
    settings: "Config",
    inputs: Mapping[str, Path],
    out: Path,
    run: "Callable[[Path, Progress], None]",
    outside: Mapping[str, str] | None = None,
) -> None:
    """Runs one stage alone and says what became of it (see ``herd.pipeline.alone``)."""
    from herd.foundation.progress import Progress
    from herd.pipeline.alone import make_alone

    started = time.monotonic()
    made = make_alone(verb, settings, inputs, out, run, Progress(sys.stderr), outside)
    print(f"{out}: made in {time.monotonic() - started:.1f} s" if made else f"{out}: nothing to do, it is up to date")


def make_together(
    launch: "Alone",
    verb: str,
    settings: "Config",
    inputs: Mapping[str, Path],
    out: Path,
    run: "Callable[[Path, Progress], None]",
    outside: Mapping[str, str] | None = None,
) -> None:
    """``make`` on every process of a launch: process 0 says where it works, the others do their part there."""
    from herd.foundation.progress import Progress

    def told(place: Path, progress: Progress) -> None:
        launch.tell(str(place))
        run(place, progress)

    if launch.rank == 0:
        try:
            make(verb, settings, inputs, out, told, outside)
        finally:
            launch.tell(None)  # refused, or nothing to do: the others leave too
    elif place := launch.hear():
        run(Path(place), Progress.silent())
