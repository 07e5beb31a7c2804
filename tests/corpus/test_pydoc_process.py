"""Children that render: they outlive bad modules, and give the same bytes every time."""

import html
import os
import pydoc
import re
import sys
import time
from pathlib import Path

from herd.corpus.pydoc_process import render

HOSTILE = {
    "raising": "raise RuntimeError('no\\nway')",
    "leaving": "import sys; sys.exit('bye')",
    "crashing": "import os; os.abort()",
    "hanging": "import time; time.sleep(60)",
    "printing": "import os; print('noise'); os.write(1, b'{\"name\": 1}\\n'); os.write(2, b'x'); input",
    "asking": "try:\n    input()\nexcept EOFError:\n    pass",
    "odd": "'''Odd \\ud800 text.'''\nx = object()\nnames = {'b', 'a', 'c'}\n"
           "kinds = frozenset([int, str, float, bytes])\ndef f(a=object()):\n    '''Doc.'''\n"
    "reference = f'odd.Name:{id(f)}'\nclass Handle:\n    def __repr__(self): return f'<H handle {id(self):x}>'\n"
    "handle = Handle()",
}  # fmt: skip


def test_bad_modules_cost_one_line_each(tmp_path: Path) -> None:
    for name, source in HOSTILE.items():
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    started = time.monotonic()
    answers = {answer.name: answer for answer in render([*HOSTILE, "bisect"], 4, [tmp_path])}
    assert time.monotonic() - started < 55
    assert answers["raising"].reason == "RuntimeError: no way"
    assert answers["leaving"].reason == "SystemExit: bye"
    assert "signal 6" in (answers["crashing"].reason or "")
    assert "4 seconds" in (answers["hanging"].reason or "")
    for fine in ("printing", "asking", "odd", "bisect"):
        assert answers[fine].html is not None, answers[fine].reason
    odd = answers["odd"].html or ""
    assert "Odd&nbsp;?&nbsp;text." in odd
    assert "{'a', 'b', 'c'}" in html.unescape(odd)
    assert "0x" not in odd
    assert "'odd.Name'" in odd
    assert "&lt;H handle&gt;" in odd
    assert str(tmp_path) not in odd


def test_same_bytes_twice_and_nothing_of_this_machine() -> None:
    names = ["enum", "logging", "os", "sys", "typing", "random", "asyncio", "unittest.mock"]
    first, second = (list(render(names, 60)) for _ in range(2))
    assert first == second
    for page in first:
        text = page.html or page.reason or ""
        assert not re.search(r"at(?:\s|&nbsp;)+0x[0-9a-f]{6}", text), page.name
        for place in (sys.prefix, str(Path.home())):
            assert place == "/usr" or place + "/" not in text, (page.name, place)
    assert "PYTHONHASHSEED" not in next(page.html or "" for page in first if page.name == "os")


def test_it_is_the_page_that_pydoc_renders() -> None:
    (page,) = render(["colorsys"], 60)
    documenter = pydoc.HTMLDoc()
    import colorsys

    theirs = documenter.page(pydoc.describe(colorsys), documenter.document(colorsys, "colorsys"))
    ours = re.sub(r'<a href="file:.*?</a>', "", page.html or "")
    assert ours == re.sub(r'<a href="file:.*?</a>', "", theirs)


def test_no_child_is_left(tmp_path: Path) -> None:
    (tmp_path / "starting.py").write_text(
        "import subprocess, os, pathlib\n"
        "child = subprocess.Popen(['sleep', '30'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n"
    )
    list(render(["starting"], 20, [tmp_path]))
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").exists() and " Z " in Path(f"/proc/{pid}/stat").read_text():
            return
        time.sleep(0.1)
    raise AssertionError("a process that a module had started lives on")
