"""Where the site generators are installed, and how one is run.

    tools = install(Path("/tmp/work"))
    tools.run("mkdocs", "build", cwd=site)

They live in environments of their own, with the versions of ``requirements.txt``, ``requirements-django.txt`` (whose
wiki wants an older Markdown) and ``package.json`` beside this file; what is there already is left alone.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from herd.foundation.errors import HerdError

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Tools:
    """The environments of the generators."""

    python: Path
    django: Path
    node: Path

    def run(self, program: str, *arguments: str, cwd: Path) -> None:
        """Runs a program of the generators, or any other; ``HerdError`` with the end of what it said if it fails."""
        places = (self.python / "bin", self.node / "node_modules" / ".bin")
        found = next((str(place / program) for place in places if (place / program).exists()), program)
        # A generator that takes this for a terminal, or finds a proxy's plugin, may ask or wait.
        environment = {**os.environ, "CI": "1", "NO_COLOR": "1", "NODE_PATH": str(self.node / "node_modules")}
        done = subprocess.run(
            [found, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=900
        )
        if done.returncode:
            raise HerdError(f"{program} failed in {cwd}: {(done.stderr or done.stdout)[-2000:]}")


def install(work: Path) -> Tools:
    """Installs the generators below ``work`` from the package indexes, once."""
    work = work.resolve()
    tools = Tools(work / "python", work / "django", work / "node")
    _install_python(tools.python, _HERE / "requirements.txt")
    _install_python(tools.django, _HERE / "requirements-django.txt")
    if not (tools.node / "installed").exists():
        tools.node.mkdir(parents=True, exist_ok=True)
        shutil.copy(_HERE / "package.json", tools.node)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund"], cwd=tools.node, check=True)
        (tools.node / "installed").touch()
    return tools


def _install_python(place: Path, requirements: Path) -> None:
    if (place / "installed").exists():
        return
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    subprocess.run([place / "bin" / "pip", "install", "-q", "-r", requirements], check=True)
    (place / "installed").touch()
