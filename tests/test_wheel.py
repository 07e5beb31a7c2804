"""The wheel alone is enough: recipes, templates and word lists travel in it, and ``herd`` runs in an empty directory.

The wheel is built from a copy of the tree and installed beside the packages that are there already, so that nothing is
fetched.  It then raises the miniature herd, which takes some minutes.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import herd

ROOT = Path(__file__).parents[1]
NOT_SHIPPED = shutil.ignore_patterns("__pycache__", "*.pyc")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that ``pip install .`` would build."""
    tree = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "herd", tree / "herd", ignore=NOT_SHIPPED)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tree / "dist"), str(tree))
    (found,) = (tree / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is installed."""
    place = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--target", str(place), str(wheel))
    return place


def pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def installed(site: Path, directory: Path, *arguments: str) -> str:
    """What the installed command prints, run in ``directory`` with the wheel's package and no other ``herd``."""
    directory.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(site / "bin" / "herd"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=directory, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    shipped = set(zipfile.ZipFile(wheel).namelist())
    tree = {str(path.relative_to(ROOT)) for path in (ROOT / "herd").rglob("*") if path.is_file()}
    missing = {name for name in tree - shipped if "__pycache__" not in name}
    assert missing == set()
    assert any(name.endswith("licenses/LICENSE") for name in shipped)


def test_the_installed_command_answers_in_an_empty_directory(site: Path, tmp_path: Path) -> None:
    assert installed(site, tmp_path, "--version") == f"herd {herd.__version__}\n"
    where = "import herd; print(herd.__file__)"
    environment = os.environ | {"PYTHONPATH": str(site)}
    output = subprocess.run(
        [sys.executable, "-c", where], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert output.stdout.startswith(str(site))
    assert "base-small" in installed(site, tmp_path, "plan", "mini")
    assert '"name": "pocket"' in installed(site, tmp_path, "run", "pocket", "--dry-run")
    assert list(tmp_path.iterdir()) == []


def test_the_miniature_herd_is_raised_from_the_wheel(site: Path, tmp_path: Path) -> None:
    installed(site, tmp_path, "run", "mini")
    assert (tmp_path / "runs" / "mini" / "report.html").is_file()
    assert "nothing to do" in installed(site, tmp_path, "run", "mini")
