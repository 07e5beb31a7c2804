"""Every rule finds its weakness, under an alias too, and leaves the safe way of doing the same alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herd.guard.code import Finding, findings

_INSECURE = [
    ("eval(text)", "CWE-95"),
    ("exec(compile(text, '', 'exec'))", "CWE-95"),
    ("import os\nos.system('ls ' + path)", "CWE-78"),
    ("from os import system as run\nrun(f'ls {path}')", "CWE-78"),
    ("import subprocess as sp\nsp.run(f'ls {path}', shell=True)", "CWE-78"),
    ("import pickle\npickle.loads(data)", "CWE-502"),
    ("from yaml import load\nload(text)", "CWE-502"),
    ("import yaml\nyaml.load(text, Loader=yaml.Loader)", "CWE-502"),
    ("import hashlib\nhashlib.md5(password)", "CWE-327"),
    ("from tempfile import mktemp\nmktemp()", "CWE-377"),
    ("requests.get(url, verify=False)", "CWE-295"),
    ("cursor.execute(f'SELECT * FROM users WHERE name = {name}')", "CWE-89"),
    ("db.execute('DELETE FROM t WHERE id = %s' % number)", "CWE-89"),
    ("db.execute('select {}'.format(x))", "CWE-89"),
    ("import os\nos.chmod(path, 0o777)", "CWE-732"),
    ("import tarfile\ntarfile.open(name).extractall(folder)", "CWE-22"),
    ("db_password = 'hunter2'", "CWE-798"),
    ("self.api_key = 'abcd'", "CWE-798"),
    (" eval(text)", "CWE-95"),
    ("\n\n    x = 1\n    exec(text)", "CWE-95"),
]
_SECURE = [
    "eval('1 + 1')",
    "import ast\nast.literal_eval(text)",
    "import os\nos.system('clear')",
    "import subprocess\nsubprocess.run(['ls', path])",
    "import json\njson.loads(data)",
    "import yaml\nyaml.safe_load(text)\nyaml.load(text, Loader=yaml.SafeLoader)",
    "import hashlib\nhashlib.md5(data, usedforsecurity=False)\nhashlib.sha256(data)",
    "import tempfile\ntempfile.mkstemp()",
    "cursor.execute('SELECT * FROM users WHERE name = ?', (name,))",
    "robot.execute(f'turn {angle}')",
    "import os\nos.chmod(path, 0o640)",
    "import tarfile\ntarfile.open(name).extractall(folder, filter='data')",
    "password = getpass()\ntoken = ''\npassword_hint = 'a pet'",
    "def broken(:",
]


@pytest.mark.parametrize(("code", "weakness"), _INSECURE)
def test_the_weakness_is_found_on_its_line(code: str, weakness: str) -> None:
    found = findings(code)
    assert [finding.weakness for finding in found] == [weakness]
    assert found[0].line == len(code.splitlines())


@pytest.mark.parametrize("code", _SECURE)
def test_the_secure_form_passes(code: str) -> None:
    assert findings(code) == []


def test_findings_are_in_the_order_of_lines() -> None:
    code = "\n".join(["x = 1", "eval(y)", "token = 'abc'", "exec(z)"])
    assert [(f.line, f.weakness) for f in findings(code)] == [(2, "CWE-95"), (3, "CWE-798"), (4, "CWE-95")]
    assert isinstance(findings(code)[0], Finding)


@given(st.text(max_size=200))
def test_any_text_is_survived(text: str) -> None:
    findings(text)
