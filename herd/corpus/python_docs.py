"""The real input of the pocket herd: the documentation of the Python that is on this machine.

For the standard library and every named distribution: the HTML page that ``pydoc`` renders for each public module, the
README in the distribution's metadata, and its ``.py`` files for the code domain.  Tests, private modules and modules
with side effects stay out.  The result depends on the interpreter's version and the distributions' versions alone, and
``versions`` tells these without rendering anything.
"""

import hashlib
import math
import os
import platform
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import machinery, metadata
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field

from herd.corpus.pages import Page
from herd.corpus.pydoc_process import Rendered, render
from herd.foundation.config import Config
from herd.foundation.errors import HerdError

Skip = Callable[[str, str], None]

_OWN_DISTRIBUTION = "herd-llm"
_STDLIB = "stdlib"
_LEFT_OUT = {"test", "tests", "conftest", "idlelib", "turtledemo", "lib2to3", "antigravity", "this", "__main__"}
_LEFT_OUT |= {"site-packages", "__pycache__", "config", "pydoc_data", "_vendor", "_vendored"}
# Deprecated twins of other modules, pages that repeat one inherited interface a hundred times, and machinery that few
# people meet: within a distribution's limit they would stand before what many look for.
_REMOTE = (
    "fastapi.openapi.models", "functorch", "matplotlib.backends", "matplotlib.projections", "matplotlib.testing",
    "numpy.distutils", "numpy.f2py", "numpy.matlib", "pydantic.v1", "torch.ao", "torch.backends", "torch.distributed",
    "torch.export", "torch.fx", "torch.jit", "torch.masked", "torch.onnx", "torch.quantization", "torch.return_types",
    "torch.sparse", "torch.testing", "torchgen",
)  # fmt: skip


# Deep in their packages, and yet what many people look for first.
_FIRST = ("torch.nn.functional", "torch.nn.init", "torch.utils.data")


class PythonDocs(Config):
    """The documentation of the standard library and of installed distributions."""

    kind: Literal["python-docs"] = "python-docs"
    stdlib: bool = Field(default=True, description="whether the standard library is documented")
    packages: tuple[str, ...] | None = Field(
        default=None, description="distributions; None stands for Herd's own base needs"
    )
    readmes: bool = Field(default=True, description="whether the distributions' READMEs are read")
    first: tuple[str, ...] = Field(default=_FIRST, description="modules that no limit cuts off before the others")
    exclude: tuple[str, ...] = Field(default=_REMOTE, description="modules left out, each with everything below it")
    max_characters: int = Field(default=8_000_000, gt=0, description="HTML per distribution, shallow modules first")
    max_page_characters: int = Field(default=4_000_000, gt=0, description="a longer page is skipped, with its reason")
    max_source_characters: int = Field(
        default=1_000_000, ge=0, description="Python sources per distribution; 0 for none"
    )
    seconds_per_module: float = Field(
        default=60.0, gt=0, description="what takes longer to import and render is skipped"
    )
    processes: int = Field(default=2, ge=1, le=2, description="children that render at the same time")


@dataclass(frozen=True)
class Package:
    """What is documented under one name: its public modules in order, its sources, and where it comes from."""

    name: str
    version: str
    modules: tuple[str, ...]
    files: dict[str, Path] = field(repr=False)
    readme: str | None = field(default=None, repr=False)
    license: str | None = None


def own_dependencies() -> tuple[str, ...]:
    """The distributions that Herd's base install needs, as its metadata names them, sorted."""
    try:
        requirements = metadata.requires(_OWN_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        raise HerdError(f"python-docs: {_OWN_DISTRIBUTION} is not installed, so name the packages yourself") from None
    names = (text for text in requirements if "extra ==" not in text)
    return tuple(sorted("".join(c if c.isalnum() or c in "-_." else " " for c in text).split()[0] for text in names))


def versions(config: PythonDocs) -> dict[str, str]:
    """The interpreter's version and every distribution's: all that the pages depend on besides ``config``."""
    found = {"python": f"{platform.python_implementation()} {platform.python_version()} {sys.platform}"}
    return found | {name: _distribution(name).version for name in _names(config)}


def read_python_docs(config: PythonDocs, skip: Skip) -> Iterator[Page]:
    """Yields pydoc pages, READMEs and sources, package after package; ``skip(name, reason)`` hears what failed."""
    packages = [standard_library()] if config.stdlib else []
    packages += [distribution(name) for name in _names(config)]
    for package, answers in zip(packages, _render_all(packages, config), strict=True):
        yield from _documentation(package, answers, skip)
        if config.readmes and package.readme:
            title, url = f"{package.name} {package.version}", f"readme:{package.name}"
            yield Page(url, "readme", "text", package.readme, None, package.name, title, package.license)
        yield from _sources(package, config.max_source_characters, skip)


def standard_library() -> Package:
    """The standard library of the running interpreter; modules in C have a page but no source."""
    root = Path(sysconfig.get_path("stdlib"))
    known = sys.stdlib_module_names
    paths = [path for name in sorted(known) for path in (root / f"{name}.py", *sorted((root / name).rglob("*.py")))]
    files = {path.relative_to(root).as_posix(): path for path in paths if path.is_file()}
    modules = set(_public_modules(files)) | {name for name in known if _wanted(name, public=True)}
    modules = modules - {os.path.__name__} | {"os.path"}  # known by the name under which people look for it
    return Package(_STDLIB, platform.python_version(), _shallow_first(modules), files, None, "PSF-2.0")


def distribution(name: str) -> Package:
    """The installed distribution ``name``; one that is not installed is a ``HerdError``."""
    found = _distribution(name)
    files = {
        path.as_posix(): Path(str(found.locate_file(path))) for path in found.files or () if ".." not in path.parts
    }
    readme = found.metadata.json.get("description")
    text = str(readme).strip() or None if readme else None
    modules = _shallow_first(set(_public_modules(files)))
    return Package(found.name, found.version, modules, files, text, _license(found))


def _names(config: PythonDocs) -> tuple[str, ...]:
    return own_dependencies() if config.packages is None else config.packages


def _distribution(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        raise HerdError(f"python-docs: the package {name!r} is not installed for {sys.executable}") from None


def _license(found: metadata.Distribution) -> str | None:
    fields = found.metadata.json
    declared = fields.get("license_expression") or fields.get("license")
    if isinstance(declared, str) and len(declared) <= 200 and "\n" not in declared:
        return declared
    classifiers = [text for text in fields.get("classifier", ()) if text.startswith("License ::")]
    return classifiers[0].rpartition("::")[2].strip() if classifiers else None


def _wanted(part: str, *, public: bool) -> bool:
    return part not in _LEFT_OUT and not part.startswith("test_") and not (public and part.startswith("_"))


def _public_modules(files: Iterable[str]) -> Iterator[str]:
    """Importable names of ``files`` (relative paths) that are public at every step and lie in real packages."""
    known = set(files)
    for name in known:
        path = PurePosixPath(name)
        suffix = next((s for s in [".py", *machinery.EXTENSION_SUFFIXES] if path.name.endswith(s)), None)
        if suffix is None:
            continue
        stem = path.name.removesuffix(suffix)
        parts = path.parent.parts if stem == "__init__" else (*path.parent.parts, stem)
        packages = [PurePosixPath(*path.parts[:depth], "__init__.py") for depth in range(1, len(path.parts))]
        importable = all(part.isidentifier() and _wanted(part, public=True) for part in parts)
        if parts and importable and all(package.as_posix() in known for package in packages):
            yield ".".join(parts)


def _shallow_first(modules: Iterable[str]) -> tuple[str, ...]:
    """The modules that most people meet come first, so that a limit cuts the remote ones."""
    return tuple(sorted(modules, key=lambda name: (name.count("."), name)))


def _render_all(packages: list[Package], config: PythonDocs) -> Iterator[list[Rendered]]:
    """The answers for every package in order; the largest are started first, as they take longest."""
    with ThreadPoolExecutor(config.processes) as pool:
        largest_first = sorted(packages, key=lambda package: (-len(package.modules), package.name))
        running = {package.name: pool.submit(_render_package, package, config) for package in largest_first}
        for package in packages:
            yield running[package.name].result()


def _render_package(package: Package, config: PythonDocs) -> list[Rendered]:
    """Pages in the order of the modules until the next would exceed the limit: no timing decides which."""
    answers: list[Rendered] = []
    characters = 0
    modules = [name for name in package.modules if not _below(name, config.exclude)]
    modules.sort(key=lambda name: name not in config.first)  # stable: shallow ones before deep ones otherwise
    # The standard library is what the pocket herd is about: it has no limit but that of a page.
    limit = math.inf if package.name == _STDLIB else config.max_characters
    for answer in render(modules, config.seconds_per_module):
        length = len(answer.html or "")
        if length > config.max_page_characters:
            reason = f"its page has {length:,} characters, more than max_page_characters"
            answers.append(Rendered(answer.name, None, reason))
            continue
        if characters + length > limit:
            rest = modules[len(answers) :]
            answers += [Rendered(name, None, "beyond max_characters of its package") for name in rest]
            break
        characters += length
        answers.append(answer)
    return answers


def _below(module: str, prefixes: Iterable[str]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


def _documentation(package: Package, answers: list[Rendered], skip: Skip) -> Iterator[Page]:
    for answer in answers:
        if answer.html is None:
            skip(answer.name, answer.reason or "no page")
            continue
        url = f"pydoc:{answer.name}"
        yield Page(url, package.name, "html", answer.html, None, package.name, answer.name, package.license)


def _sources(package: Package, limit: int, skip: Skip) -> Iterator[Page]:
    """The ``.py`` files in an order that no alphabet decides, so that a limit takes a fair sample."""
    names = [name for name in package.files if name.endswith(".py") and _is_source(name)]
    names.sort(key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())
    for name in names:
        try:
            text = package.files[name].read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            skip(name, f"{type(error).__name__}: not readable as UTF-8")
            continue
        limit -= len(text)
        if limit < 0:
            return
        if text.strip():
            yield Page(f"source:{name}", package.name, "code", text, None, package.name, name, package.license)


def _is_source(name: str) -> bool:
    parts = PurePosixPath(name).with_suffix("").parts
    return all(_wanted(part, public=False) for part in parts) and not any(
        p.endswith((".dist-info", ".data")) for p in parts
    )
