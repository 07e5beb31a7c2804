"""``constraints.txt`` pins everything that the install needs, to versions that the ranges of ``pyproject.toml`` allow.

    python tests/test_constraints.py > constraints.txt    # writes it anew from the packages that are installed

The pins are the versions that were tested.  A package's local tag (``+cpu``) is left out, so that a machine whose index
offers another build of the same version can use the file too.
"""

import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
GPU_LIBRARIES = ("nvidia-", "cuda-", "triton")
EXTRAS = ("tensorboard", "test")
HEADER = """\
# The exact versions that were tested, for pip's -c; the ranges are in pyproject.toml.
# Written by: python tests/test_constraints.py > constraints.txt
"""


def declared() -> list[Requirement]:
    """What ``pyproject.toml`` asks for, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for extra in EXTRAS for text in project["optional-dependencies"][extra]]
    return [Requirement(text) for text in [*project["dependencies"], *extras]]


def installed_closure() -> dict[str, str]:
    """Every package that the declared ones need on this machine, with the version that is installed."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = declared()
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        if (name, frozenset(asked.extras)) in seen:
            continue
        seen.add((name, frozenset(asked.extras)))
        found = distribution(name)
        versions[name] = Version(found.version).public
        for text in found.requires or ():
            below = Requirement(text)
            wanted = below.marker is None or any(below.marker.evaluate({"extra": e}) for e in ("", *asked.extras))
            waiting += [below] if wanted else []
    return versions


def pinned(file: str = "constraints.txt") -> dict[str, str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the pins were taken on Python 3.11")
def test_everything_that_is_installed_for_herd_is_pinned_at_its_version() -> None:
    # A build of torch for GPUs brings its own libraries, which the tested one for CPUs does not have.
    installed = {name: version for name, version in installed_closure().items() if not name.startswith(GPU_LIBRARIES)}
    assert pinned() == installed


def test_the_pins_lie_within_the_declared_ranges() -> None:
    pins = pinned()
    outside = [str(asked) for asked in declared() if not asked.specifier.contains(pins[canonicalize_name(asked.name)])]
    assert outside == []


def test_the_clusters_pins_lie_within_all_ranges() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [Requirement(text) for text in project["optional-dependencies"]["cluster"]] + declared()
    pins = pinned("constraints-cluster.txt")
    assert {"daft", "ray"} <= set(pins)
    named = [one for one in asked if canonicalize_name(one.name) in pins]
    assert [str(one) for one in named if not one.specifier.contains(pins[canonicalize_name(one.name)])] == []


if __name__ == "__main__":
    print(HEADER + "\n".join(f"{name}=={version}" for name, version in sorted(installed_closure().items())))
