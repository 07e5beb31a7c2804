"""A fast check of Python that a model wrote: constructs that are insecure in most places where they stand.

The paper filters generated code with a static analyser (Code Shield, section 5.4.7).  This is the pocket form for one
language: one walk over the syntax tree, no execution, about a millisecond a snippet.  It advises; whether to warn or to
block is the caller's choice.  Usage: ``findings("import os; os.system('rm ' + name)")``.
"""

import ast
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_SECRET_NAME = re.compile(r"(?:^|_)(?:password|passwd|secret|token|api_?key)$", re.IGNORECASE)
_SQL = re.compile(r"\s*(?:select|insert|update|delete|drop|alter|create)\b", re.IGNORECASE)
_DESERIALISERS = frozenset(
    {"pickle.load", "pickle.loads", "marshal.load", "marshal.loads", "shelve.open", "dill.loads"}
)
_SHELLS = frozenset({"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"})
_WEAK_HASHES = frozenset({"hashlib.md5", "hashlib.sha1"})
_WORLD_WRITABLE = 0o002


@dataclass(frozen=True)
class Finding:
    """One insecure construct: its line (from 1), its weakness in the CWE list, and a sentence."""

    line: int
    weakness: str
    message: str


def findings(code: str) -> list[Finding]:
    """What is insecure in a piece of Python, by line; nothing for code that is no Python, which cannot run either.

    Code that is indented as a whole is taken as the interpreter takes it (``herd.tools.sandbox_server.execute``).
    """
    try:
        tree = ast.parse(textwrap.dedent(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    aliases = _aliases(tree)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = _name(node.func, aliases)
            for rule in _CALL_RULES:
                if hit := rule(node, name):
                    found.add(Finding(node.lineno, *hit))
        elif isinstance(node, ast.Assign):
            found.update(_hard_coded(node))
    return sorted(found, key=lambda finding: (finding.line, finding.weakness))


def _aliases(tree: ast.AST) -> dict[str, str]:
    """What imported names stand for: ``sh`` for ``os.system`` after ``from os import system as sh``."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({alias.asname or alias.name: alias.name for alias in node.names})
        elif isinstance(node, ast.ImportFrom):
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def _name(node: ast.expr, aliases: dict[str, str]) -> str:
    """The dotted name of what is called, aliases resolved; empty for anything else."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return "." + ".".join(reversed(parts)) if parts else ""
    return ".".join([aliases.get(node.id, node.id), *reversed(parts)])


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _is_constant(node: ast.expr | None, *values: object) -> bool:
    return isinstance(node, ast.Constant) and (not values or any(node.value is value for value in values))


Hit = tuple[str, str] | None


def _evaluates(call: ast.Call, name: str) -> Hit:
    if name in ("eval", "exec") and call.args and not _is_constant(call.args[0]):
        return "CWE-95", f"{name} runs whatever text it is given"
    return None


def _shell(call: ast.Call, name: str) -> Hit:
    literal = bool(call.args) and _is_constant(call.args[0])
    if name in _SHELLS and not literal:
        return "CWE-78", f"{name} hands a built string to a shell"
    if name.startswith("subprocess.") and _is_constant(_keyword(call, "shell"), True) and not literal:
        return "CWE-78", "a built command runs in a shell"
    return None


def _deserialises(call: ast.Call, name: str) -> Hit:
    if name in _DESERIALISERS:
        return "CWE-502", f"{name} runs code that the data names"
    loader = _keyword(call, "Loader") or (call.args[1] if len(call.args) > 1 else None)
    if name == "yaml.load" and "Safe" not in ast.dump(loader or ast.Constant("")):
        return "CWE-502", "yaml.load builds any object without a safe loader"
    return None


def _weak(call: ast.Call, name: str) -> Hit:
    if name in _WEAK_HASHES and not _is_constant(_keyword(call, "usedforsecurity"), False):
        return "CWE-327", f"{name} can be forged; use sha256, or scrypt for passwords"
    if name == "tempfile.mktemp":
        return "CWE-377", "the name can be taken before the file is opened; use mkstemp"
    if name == "ssl._create_unverified_context" or _is_constant(_keyword(call, "verify"), False):
        return "CWE-295", "certificates are not checked"
    return None


def _query(call: ast.Call, name: str) -> Hit:
    if name.rpartition(".")[2] not in ("execute", "executemany", "executescript") or not call.args:
        return None
    text = call.args[0]
    built = isinstance(text, ast.JoinedStr | ast.BinOp) or (
        isinstance(text, ast.Call) and isinstance(text.func, ast.Attribute) and text.func.attr == "format"
    )
    first = next((n.value for n in ast.walk(text) if isinstance(n, ast.Constant) and isinstance(n.value, str)), "")
    return ("CWE-89", "a query is built from strings; pass parameters instead") if built and _SQL.match(first) else None


def _permissions(call: ast.Call, name: str) -> Hit:
    mode = call.args[-1] if call.args and name.rpartition(".")[2] == "chmod" else None
    if isinstance(mode, ast.Constant) and isinstance(mode.value, int) and mode.value & _WORLD_WRITABLE:
        return "CWE-732", "everybody may write to the file"
    if name.endswith(".extractall") and _keyword(call, "filter") is None and "tar" in ast.dump(call.func).lower():
        return "CWE-22", "an archive can write outside the folder; pass filter='data'"
    return None


_CALL_RULES: tuple[Callable[[ast.Call, str], Hit], ...] = (
    _evaluates,
    _shell,
    _deserialises,
    _weak,
    _query,
    _permissions,
)


def _hard_coded(node: ast.Assign) -> Iterator[Finding]:
    value = node.value
    if not (isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value):
        return
    for target in node.targets:
        name = target.id if isinstance(target, ast.Name) else target.attr if isinstance(target, ast.Attribute) else ""
        if _SECRET_NAME.search(name):
            yield Finding(node.lineno, "CWE-798", f"{name} stands in the source")
