"""The house rule: an import may only point down the list of rooms (docs/architecture.md)."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "herd"

# What each room may import besides itself and foundation.
MAY_IMPORT: dict[str, set[str]] = {
    "foundation": set(),
    "corpus": set(),
    "tokenizer": set(),
    "model": set(),
    "plan": {"model"},
    "scaling": set(),
    "formats": {"model", "tokenizer"},
    "train": {"model", "formats", "tokenizer"},
    "infer": {"model", "formats", "tokenizer"},
    "tasks": set(),
    "tools": {"infer", "model", "formats", "tokenizer"},
    "guard": {"infer", "train", "model", "formats", "tokenizer"},
    "align": {"tasks", "train", "infer", "tools", "model", "formats", "tokenizer"},
    "evaluate": {"tasks", "infer", "tools", "guard", "corpus", "train", "model", "formats", "tokenizer"},
    "serve": {"infer", "tools", "guard", "evaluate", "train", "model", "formats", "tokenizer"},
    "report": set(),
    "pipeline": {
        *("corpus", "tokenizer", "model", "plan", "scaling", "formats", "train", "infer", "tasks", "tools"),
        *("guard", "align", "evaluate", "serve", "report"),
    },
}
MAY_IMPORT["cli"] = set(MAY_IMPORT)


def rooms_imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("herd.") and name.count(".") >= 1}
    return found


def violations(package: Path, rule: dict[str, set[str]]) -> list[str]:
    wrong = []
    for path in sorted(package.glob("*/**/*.py")):
        room = path.relative_to(package).parts[0]
        for other in rooms_imported(path) - {room, "foundation"} - rule.get(room, set()):
            if (package / other).is_dir():
                wrong.append(f"{path.relative_to(package)} imports {other}")
    return wrong


def test_every_room_is_known() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms <= {*MAY_IMPORT, "recipes"}


def test_imports_point_down() -> None:
    assert violations(PACKAGE, MAY_IMPORT) == []


def test_the_check_finds_a_wrong_import(tmp_path: Path) -> None:
    for room, text in {"model": "from herd.train import loop\n", "train": "import herd.model.config\n"}.items():
        (tmp_path / room).mkdir()
        (tmp_path / room / "a.py").write_text(text)
    assert violations(tmp_path, MAY_IMPORT) == ["model/a.py imports train"]


def test_every_module_says_why_it_exists() -> None:
    silent = [
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []
