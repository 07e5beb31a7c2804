"""pydoc pages as text and as passages, held to what ``inspect`` says of the same objects."""

import inspect
import json
import statistics
import textwrap
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq
import pytest

from herd.corpus.extract import extract_html, extract_page
from herd.corpus.pages import Page
from herd.corpus.passages import PASSAGE_COLUMNS, first_sentence, passages, write_passages
from herd.corpus.pydoc_process import render


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    rendered = render(["json", "statistics", "textwrap", "argparse", "collections", "os"], 60)
    return {page.name: extract_html(page.html or "").text for page in rendered}


@pytest.mark.parametrize("module", [json, statistics, textwrap])
def test_every_public_function_has_its_passage_with_signature_and_docstring(
    texts: dict[str, str], module: ModuleType
) -> None:
    found = {passage.name: passage for passage in passages(texts[module.__name__], module.__name__)}
    functions = [name for name in module.__all__ if inspect.isfunction(getattr(module, name))]
    assert functions
    for name in functions:
        function = getattr(module, name)
        passage = found[f"{module.__name__}.{name}"]
        assert passage.signature == f"{module.__name__}.{name}{inspect.signature(function)}"
        docstring = (inspect.getdoc(function) or "").strip()
        said = textwrap.dedent(passage.text.partition("\n")[2])
        assert said.split("\n") == [line.rstrip() for line in docstring.split("\n")]
        assert passage.summary.split() == docstring.split()[: len(passage.summary.split())]
        assert passage.summary.endswith(".") or passage.summary == docstring.partition("\n\n")[0]


def test_classes_have_their_call_and_their_methods(texts: dict[str, str]) -> None:
    found = {passage.name: passage for passage in passages(texts["json"], "json")}
    assert found["json.JSONDecoder"].signature.startswith("class json.JSONDecoder(*, object_hook=None, ")
    assert found["json.JSONDecoder.decode"].text.startswith("json.JSONDecoder.decode(self, s, _w=")
    assert "Bases: builtins.ValueError" in found["json.JSONDecodeError"].text


def test_inherited_members_stand_where_they_are_documented(texts: dict[str, str]) -> None:
    names = {passage.name for passage in passages(texts["argparse"], "argparse")}
    assert "argparse.ArgumentParser.add_argument" in names, "its base is private and has no page"
    names = {passage.name for passage in passages(texts["collections"], "collections")}
    assert "collections.OrderedDict.popitem" in names
    assert "collections.OrderedDict.get" not in names, "inherited from dict, which the page of builtins documents"
    assert "inherits from builtins.dict: " in texts["collections"]


def test_nothing_of_the_page_around_it_stays(texts: dict[str, str]) -> None:
    for text in texts.values():
        for gone in (
            "Method resolution order",
            "Module Reference",
            "Package Contents",
            "\xa0",
            "&gt;",
            "index"[:0] + "__weakref__",
        ):
            assert gone not in text
    assert texts["json"].startswith("JSON (JavaScript Object Notation) <https://json.org> is a subset of\n")
    assert "\n    >>> json.dumps(" in texts["json"], "examples keep their indentation"


def test_the_process_is_not_in_its_documentation(texts: dict[str, str]) -> None:
    assert "os.environ = ...\n" in texts["os"]
    assert "herd-pydoc-" not in texts["os"]


def test_a_module_is_called_as_people_call_it() -> None:
    (rendered,) = render(["os.path"], 60)
    page = Page("pydoc:os.path", "stdlib", "html", rendered.html or "", title="os.path")
    found = {passage.name: passage for passage in passages(extract_page(page).text, "os.path")}
    assert found["os.path.join"].signature == "os.path.join(a, *p)"


def test_a_signature_over_several_lines_becomes_one() -> None:
    """As Python 3.13 and later write long signatures."""
    page = (
        '<title>Python: module m</title><table class="heading"><tr><td class="title"><strong class="title">m</strong>'
        '</td></tr></table><table class="section"><tr><td class="section-title"><a name="C">class <b>C</b></a>'
        "(builtins.object)</td></tr><tr><td rowspan=2></td><td colspan=2><span class=code>C(<br>\n&nbsp;&nbsp;a,<br>\n"
        "&nbsp;&nbsp;b=(1, 2),<br>\n)<br>\n&nbsp;<br>\nMakes one.<br>&nbsp;</span></td></tr></table>"
        '<table class="section"><tr><td class="section-title"><strong class="bigsection">Functions</strong></td></tr>'
        '<tr><td class="singlecolumn"><dl><dt><a name="-f"><b>f</b></a>(\n    a,\n    *,\n    b="( "\n) -> int'
        "</dt><dd><span class=code>Does&nbsp;it.</span></dd></dl></td></tr></table>"
    )
    found = {passage.name: passage for passage in passages(extract_html(page).text, "m")}
    assert found["m.C"].signature == "class m.C(a, b=(1, 2))"
    assert found["m.C"].summary == "Makes one."
    assert found["m.f"].signature == 'm.f(a, *, b="( ") -> int'


def test_first_sentence() -> None:
    assert first_sentence("\n  Joins e.g. a and b,\n  in order. Then more.\n") == "Joins e.g. a and b, in order."
    assert first_sentence("sum(a, b) -> int\n\nAdds. Twice.") == "Adds."
    assert first_sentence("=====\nTitle\n=====\n\nText") == "Title"
    assert first_sentence("Returns version 3.11 of it. Really.") == "Returns version 3.11 of it."
    assert first_sentence("") == ""


def test_prose_is_cut_between_paragraphs() -> None:
    text = "\n\n".join(f"Paragraph {number}. " + "word " * 100 for number in range(9))
    cut = passages(text, "A page", pydoc=False)
    assert len(cut) > 2
    assert "\n\n".join(passage.text for passage in cut) == text
    assert all(passage.name == "A page" and passage.signature == "" for passage in cut)


def test_passages_on_disk(texts: dict[str, str], tmp_path: Path) -> None:
    row = {"title": "json", "text": texts["json"], "package": "stdlib"}
    twin = row | {"id": "2", "url": "pydoc:json"}
    code = row | {"id": "3", "url": "source:json/__init__.py"}
    count = write_passages([row | {"id": "1", "url": "pydoc:json"}, twin, code], tmp_path)
    table = pq.read_table(tmp_path / "passages.parquet")
    assert tuple(table.column_names) == PASSAGE_COLUMNS
    assert table.num_rows == count
    rows = [row for row in table.to_pylist() if row["name"] == "json.dumps"]
    assert [row["document_id"] for row in rows] == ["1"], "a name is kept from the first document that has it"
    assert rows[0]["summary"] == "Serialize ``obj`` to a JSON formatted ``str``."
