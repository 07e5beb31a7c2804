"""The child process that renders modules with ``pydoc``: names come in on stdin, one JSON line for each goes out.

The first line out is an empty object: the child is ready, and from then on every module's time counts.

Importing somebody's module runs their code, which may print, hang, exit or crash.  So it happens here, in a process
that ``python_docs`` starts, times and replaces, and never in Herd itself.  This file is run by its path, imports the
standard library only, and gives the same bytes for the same packages on every machine: memory addresses vanish, the
places of the interpreter become ``/usr``, sets are written in order, and values that are the state of this very
process (``os.environ``, ``sys.modules``) are left out.

    echo json | PYTHONHASHSEED=0 python -P herd/corpus/render_pydoc.py
"""

import functools
import importlib
import inspect
import json
import os
import pydoc
import re
import site
import sys
import sysconfig
import warnings
from typing import Any

# As Python writes addresses, as ctypes does, and as pydantic's references do: "at 0x7f…", "handle 7f…", "Name:94…".
_ADDRESS = re.compile(
    r"(?:\s|&nbsp;)+at(?:\s|&nbsp;)+0x[0-9A-Fa-f]+|(?<=handle)(?:\s|&nbsp;)+[0-9a-f]{8,16}\b|(?<=[A-Za-z_]):\d{12,16}\b"
)
_STATE_OF_THE_PROCESS = {
    "os": {"environ", "environb"},
    "sys": {
        "argv", "exec_prefix", "executable", "flags", "base_exec_prefix", "base_prefix", "meta_path", "modules",
        "orig_argv", "path", "path_hooks", "path_importer_cache", "prefix", "stderr", "stdin", "stdout", "warnoptions",
    },
    "time": {"altzone", "daylight", "timezone", "tzname"},
}  # fmt: skip


class SteadyRepr(pydoc.HTMLRepr):
    """Values as ``pydoc`` writes them, with the members of a set in an order that no address decides."""

    def repr_set(self, x: Any, level: int) -> str:
        """A set, its members sorted by how they are written."""
        members = sorted(self.repr1(member, level - 1) for member in x)[: self.maxset]
        return "{" + ", ".join(members) + (", ..." if len(x) > self.maxset else "") + "}"

    def repr_frozenset(self, x: Any, level: int) -> str:
        """A frozen set, written as a set in parentheses."""
        return f"frozenset({self.repr_set(x, level)})"


class SteadyDoc(pydoc.HTMLDoc):
    """``pydoc``'s HTML without what differs from process to process."""

    _repr_instance = SteadyRepr()
    repr = _repr_instance.repr
    escape = _repr_instance.escape

    def docother(self, object: Any, name: Any = None, mod: Any = None, *ignored: Any) -> str:
        """A plain value; the state of this process is written as an ellipsis."""
        if name in _STATE_OF_THE_PROCESS.get(self._module, ()):
            return f"<strong>{name}</strong> = ..."
        return super().docother(object, name, mod, *ignored)

    def page_of(self, name: str) -> str:
        """The whole HTML page of the module ``name``, which is imported for it."""
        self._module = name
        module = importlib.import_module(name)
        page = self.page(pydoc.describe(module), self.document(module, name))
        # Everybody writes os.path.join; the module behind it goes by a name that nobody uses.
        return page.replace("posixpath", "os.path") if name == "posixpath" else page


def _replace(text: str, *pairs: str) -> str:
    """What ``pydoc.replace`` does, by the string method for it: pairs of old and new, one after the other."""
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        text = text.replace(old, new)
    return text


_getcomments = inspect.getcomments


@functools.cache
def _comments_once(object: Any) -> str | None:
    return _getcomments(object)


def _comments(object: Any) -> str | None:
    """The comment above an object without docstring, looked for once, and never for a class.

    A class inherits the same undocumented methods many times over, and finding the line of a class takes parsing its
    whole file: both together are half of the time that rendering takes.
    """
    if inspect.isclass(object):
        return None
    try:
        return _comments_once(object)
    except TypeError:  # not hashable
        return None


def _places() -> list[tuple[str, str]]:
    """Directories of this machine and what to write for them, longest first."""
    library = f"/usr/lib/python{sys.version_info.major}.{sys.version_info.minor}"
    found = dict.fromkeys([*site.getsitepackages(), sysconfig.get_path("purelib")], f"{library}/site-packages")
    found[sysconfig.get_path("stdlib")] = library
    found |= dict.fromkeys((sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix), "/usr")
    found |= dict.fromkeys(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), library)
    found[os.getcwd()] = "/home/user"  # noqa: PTH109
    return sorted(((place, name) for place, name in found.items() if len(place) > 1), key=lambda pair: -len(pair[0]))


def normalise(page: str, places: list[tuple[str, str]]) -> str:
    """``page`` without memory addresses and without the directories of this machine."""
    for place, name in places:
        page = page.replace(place, name)
    return _ADDRESS.sub("", page)


def answer(name: str, documenter: SteadyDoc, places: list[tuple[str, str]]) -> dict[str, str]:
    """One line of output: the page of ``name``, or the reason why there is none."""
    try:
        page = documenter.page_of(name)
    except BaseException as error:  # a module may raise SystemExit or worse while it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return {"name": name, "reason": normalise(reason, places)}
    return {"name": name, "html": normalise(page, places).encode("utf-8", "replace").decode()}


def main() -> None:
    """Answers every name on stdin; what imported modules print goes nowhere."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    names = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    warnings.simplefilter("ignore")
    pydoc.replace = _replace  # type: ignore[assignment]
    inspect.getcomments = _comments
    documenter, places = SteadyDoc(), _places()
    replies.write("{}\n")
    replies.flush()
    for line in names:
        replies.write(json.dumps(answer(line.strip(), documenter, places)) + "\n")
        replies.flush()
    os._exit(0)  # threads and exit handlers of strangers must not keep this process alive


if __name__ == "__main__":
    main()
