"""What an artifact says of itself: how it was made, from what, and the digest of what is in it.

``manifest.json`` lies in every finished artifact.  Its fingerprint covers the resolved configuration, the digests
of the inputs, what lies outside (sources, interpreter) and Herd's version: equal fingerprint, equal work.  The
figures beside the artifact (``stats.json``, ``metrics.jsonl``, checkpoints) hold clock times and are therefore not
part of its digest.
"""

import os
import platform
import sys
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import herd
from herd.foundation.errors import HerdError
from herd.foundation.files import digest_file, digest_value, read_json, write_json

FILE = "manifest.json"
FINGERPRINT_FILE = ".fingerprint"
_NOT_CONTENT = {FILE, FINGERPRINT_FILE, "stats.json", "metrics.jsonl", "checkpoints", "tensorboard"}
_RECORDED_PACKAGES = ("torch", "numpy", "pyarrow", "tokenizers", "tiktoken")


@dataclass(frozen=True)
class Manifest:
    """The record of one finished artifact; ``files`` maps a relative path to its digest, size and time of change.

    ``seconds`` and ``peak_memory_bytes`` are those of all processes that worked on it, one after another; ``sources``
    are digests of Herd's own rooms, which decide no fingerprint (``herd.pipeline.sources``).
    """

    stage: str
    fingerprint: str
    digest: str
    config: dict[str, Any]
    inputs: dict[str, dict[str, str]]
    outside: dict[str, str]
    files: dict[str, dict[str, Any]]
    seconds: float
    finished: str
    peak_memory_bytes: int
    herd_version: str = herd.__version__
    environment: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def write(self, directory: Path) -> None:
        """Writes ``manifest.json`` into ``directory``."""
        write_json(directory / FILE, asdict(self))

    @classmethod
    def read(cls, directory: Path) -> "Manifest | None":
        """The manifest of an artifact, or None where there is no finished artifact."""
        if not (directory / FILE).exists():
            return None
        try:
            return cls(**read_json(directory / FILE))
        except TypeError as error:
            raise HerdError(f"{directory / FILE}: not a manifest of this version of Herd ({error})") from None

    def changed_file(self, directory: Path) -> str | None:
        """The first file that is missing or differs from what was written, or None; unchanged times skip the digest."""
        for name, known in self.files.items():
            path = directory / name
            try:
                status = path.stat()
            except OSError:
                return name
            same_look = status.st_size == known["bytes"] and status.st_mtime_ns == known["mtime_ns"]
            if not same_look and digest_file(path) != known["digest"]:
                return name
        return None


def fingerprint(config: dict[str, Any], inputs: dict[str, str], outside: dict[str, str]) -> str:
    """The digest of everything that decides a stage's result; ``inputs`` maps a role to the input's digest."""
    return digest_value({"config": config, "inputs": inputs, "outside": outside, "herd": herd.__version__})


def describe_files(directory: Path) -> dict[str, dict[str, Any]]:
    """Digest, size and time of change of every content file below ``directory``."""
    found = {}
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if name not in _NOT_CONTENT)
        for name in sorted(names):
            if name in _NOT_CONTENT:
                continue
            path = Path(folder) / name
            status = path.stat()
            found[str(path.relative_to(directory))] = {
                "digest": digest_file(path),
                "bytes": status.st_size,
                "mtime_ns": status.st_mtime_ns,
            }
    return found


def content_digest(files: dict[str, dict[str, Any]]) -> str:
    """One digest for the whole content, from the digests of its files."""
    return digest_value({name: entry["digest"] for name, entry in files.items()})


def environment() -> dict[str, str]:
    """The interpreter, the system and the packages whose versions can change a result."""
    found = {"python": sys.version.split()[0], "system": platform.platform(), "processor": platform.machine()}
    for name in _RECORDED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found
