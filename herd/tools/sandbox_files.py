"""Which files the interpreter in the sandbox needs, and nothing more: binary, standard library, shared libraries.

They are found by asking the interpreter itself: a child loads every extension module of the standard library and lists
what the kernel has mapped for it.  ``site-packages`` is covered by an empty directory.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from herd.foundation.errors import HerdError

_PROBE = """
import json, os, sys, sysconfig
folders = [folder for folder in sys.path if os.path.isdir(folder)]
for entry in sorted(entry for folder in folders for entry in os.listdir(folder) if entry.endswith(".so")):
    name = entry.partition(".")[0]
    if not name.startswith(("_test", "_xx", "xx", "_tkinter")):
        try:
            __import__(name)
        except Exception:
            pass
maps = [line.split(maxsplit=5)[5].strip() for line in open("/proc/self/maps") if "/" in line]
shared = sorted({path for path in maps if ".so" in os.path.basename(path)})
folders += [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
print(json.dumps({"folders": folders, "shared": shared}))
"""
_PROBE_SECONDS = 60
_FLAGS = ("-s", "-S", "-P", "-B")


@dataclass(frozen=True)
class InterpreterFiles:
    """``binds``: (on the host, in the sandbox); ``links``: (target, place); ``empty``: directories to cover."""

    command: list[str]
    environment: dict[str, str]
    binds: list[tuple[str, str]]
    links: list[tuple[str, str]]
    empty: list[str]


@functools.cache
def interpreter_files() -> InterpreterFiles:
    """The files of the interpreter that runs now; ``HerdError`` where it cannot say what it needs."""
    binary = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    needed = _needed(binary)
    shared = needed["shared"]
    directories = _outermost(os.path.realpath(folder) for folder in needed["folders"])
    inside = [path for path in shared if not any(path.startswith(f"{directory}/") for directory in directories)]
    files = {str(binary): str(binary)}
    for path in inside:
        files |= dict.fromkeys(_names_of(Path(path)), path)
    files |= {place: str(Path(place).resolve()) for place in _loaders()}
    binds = [(directory, directory) for directory in directories]
    binds += sorted((source, place) for place, source in files.items())
    empty = [f"{directory}/{name}" for directory, _ in binds for name in ("site-packages", "dist-packages")]
    search_path = ":".join(sorted({str(Path(path).parent) for path in inside}))
    environment = {"LD_LIBRARY_PATH": search_path, "PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "LC_ALL": "C.UTF-8"}
    empty = [directory for directory in empty if Path(directory).is_dir()]
    return InterpreterFiles([str(binary), *_FLAGS], environment, binds, _root_links(), empty)


def bubblewrap_command(files: InterpreterFiles, command: list[str], *, user_namespace: bool) -> list[str]:
    """The command line of ``bwrap`` that shows exactly ``files`` and runs ``command`` as process 1."""
    spaces = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if user_namespace:
        spaces += ["--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
    else:
        spaces += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        # The server gives up root's number, so the way to the files must be open to others.
        spaces += [part for directory in _parents(files) for part in ("--perms", "0755", "--dir", directory)]
    shown = [part for target, place in files.links for part in ("--symlink", target, place)]
    shown += [part for source, place in files.binds for part in ("--ro-bind", source, place)]
    shown += [part for directory in files.empty for part in ("--tmpfs", directory, "--remount-ro", directory)]
    end = ["--hostname", "sandbox", "--remount-ro", "/", "--chdir", "/", "--as-pid-1", "--"]
    return [shutil.which("bwrap") or "bwrap", *spaces, *shown, *end, *command]


def _parents(files: InterpreterFiles) -> list[str]:
    """Every directory above a shown file, from the root down."""
    found = {str(parent) for _, place in files.binds for parent in Path(place).parents}
    return sorted(found - {"/"})


def _needed(binary: Path) -> dict[str, list[str]]:
    """The folders of the standard library and the shared libraries, told by the interpreter itself."""
    command = [str(binary), *_FLAGS, "-c", _PROBE]
    # An interpreter that was moved from where it was built finds its own library by this variable alone.
    path = {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"}
    try:
        found = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, env=path, cwd="/", text=True)
        return dict(json.loads(found.stdout))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise HerdError(f"{binary}: the interpreter does not tell which files it needs ({error})") from None


def _outermost(folders: Iterable[str]) -> list[str]:
    """The folders that exist and lie in no other of them; the root is never among them."""
    found = sorted({folder for folder in folders if folder != "/" and Path(folder).is_dir()})
    return [folder for folder in found if not any(folder.startswith(f"{other}/") for other in found)]


def _names_of(library: Path) -> list[str]:
    """The file itself and the links beside it, by which other libraries ask for it."""
    names = [str(library)]
    with os.scandir(library.parent) as entries:
        names += [
            entry.path for entry in entries if entry.is_symlink() and os.path.realpath(entry.path) == str(library)
        ]
    return names


def _loaders() -> list[str]:
    """Where binaries look for the dynamic loader."""
    found = [path for directory in ("/lib64", "/lib") for path in sorted(Path(directory).glob("ld-*.so*"))]
    return sorted({str(path.parent.resolve() / path.name) for path in found})


def _root_links() -> list[tuple[str, str]]:
    links = []
    for name in ("/lib", "/lib64"):
        if Path(name).is_symlink():
            links.append((str(Path(name).readlink()), name))
    return links
