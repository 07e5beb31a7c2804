"""Withholding: nothing of what is held out remains in a training document, and nothing else is touched."""

import json
import re
import textwrap
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herd.corpus.decontaminate import DecontaminateConfig, Detector, decontaminate, load_items
from herd.corpus.documents import REASONS, DocumentWriter, document_schema
from herd.corpus.passages import first_sentence, passages
from herd.corpus.withhold import Withholder
from herd.foundation.errors import HerdError
from herd.foundation.files import write_json, write_jsonl
from herd.foundation.progress import Progress

SENTENCE = "Return the padded width."
PAGE = """\
Words of the module itself, which stay.

mod.first(x)
    Say what the first one does.

    More about it.

mod.second(y, *, z=None)
    Return the padded
    width.

    And a second paragraph, which is its own.

mod.third()
    Say what the third one does."""


def held_out(document_id: str = "page", name: str = "mod.second") -> list[dict[str, str]]:
    (found,) = [passage for passage in passages(PAGE, "mod") if passage.name == name]
    row = {"name": name, "document_id": document_id, "url": "pydoc:mod"}
    return [row | {"sentence": found.summary, "text": found.text}]


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_passage_leaves_its_page_and_the_rest_stays_character_for_character() -> None:
    withholder = Withholder(held_out())
    start, end = PAGE.index("mod.second"), PAGE.index("mod.third")
    assert withholder.clean("page", PAGE) == PAGE[:start] + PAGE[end:]
    assert (withholder.withheld.passages, withholder.withheld.unplaced) == (1, 0)


def test_the_last_passage_leaves_with_the_blank_line_before_it() -> None:
    assert Withholder(held_out(name="mod.third")).clean("page", PAGE) == PAGE[: PAGE.index("\n\nmod.third")]


def test_another_document_keeps_its_page_but_not_the_docstring_under_another_heading() -> None:
    withholder = Withholder(held_out("elsewhere"))
    start, end = PAGE.index("    Return the padded"), PAGE.index("\n\nmod.third")
    assert withholder.clean("page", PAGE) == PAGE[:start] + PAGE[end + 1 :]
    assert (withholder.withheld.passages, withholder.withheld.sentences, withholder.withheld.docstrings) == (0, 1, 1)


WHOLE = """Return the padded
    width.

    A "second" paragraph, it's its own.

    >>> f('a')  # \'\'\'
    1
    """


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f'def f():\n    """{WHOLE}"""\n    return "padded"\n', 'def f():\n    """\n    """\n    return "padded"\n'),
        (f'f.__doc__ = r"""\\\n{WHOLE}"""\n', 'f.__doc__ = r"""\\\n    """\n'),
        (f'add_docstr(f, """\nf(x, *) -> int\n\n{WHOLE}""")\n', 'add_docstr(f, """\n    """)\n'),
        ("def f():\n    'Return the padded width. And more.'\n", "def f():\n    ''\n"),
        (f'# It is called """\ndef f():\n    """{WHOLE}"""\n', '# It is called """\ndef f():\n    """\n    """\n'),
        (
            f'"""The module.\n\nf: Return the padded width.\n"""\n{PAGE[:30]}',
            f'"""The module.\n\nf: \n"""\n{PAGE[:30]}',
        ),
        (
            'def f():\n    # Return the padded width. As ever.\n    """Other."""\n',
            'def f():\n    #  As ever.\n    """Other."""\n',
        ),
    ],
)
def test_a_docstring_that_begins_with_the_sentence_goes_whole(before: str, after: str) -> None:
    assert Withholder(held_out()).clean("other", before) == after


def test_the_docstrings_of_a_real_source_go_whole() -> None:
    source = Path(textwrap.__file__).read_text(encoding="utf-8")
    docstring = str(textwrap.dedent.__doc__)
    row = {"document_id": "page", "sentence": first_sentence(docstring), "text": docstring}
    kept = Withholder([row]).clean("source", source)
    lines = [line.strip() for line in docstring.splitlines() if line.strip()]
    assert len(lines) > 3
    assert not [line for line in lines if line in kept]
    compile(kept, "textwrap.py", "exec")
    assert len(source) - len(kept) < 1.2 * len(docstring)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('def f():\n    """Return the padded width."""\n    return 1\n', 'def f():\n    """"""\n    return 1\n'),
        ('    """\n    Return the padded width.\n    """\n', '    """\n    """\n'),
        ("x = 1  # Return the padded\n       # width.\ny = 2\n", "x = 1  # \ny = 2\n"),
        ("First. Return the padded width. Last.", "First.  Last."),
        ("Return the padded width.", ""),
        ("Return the padded widths.", "Return the padded widths."),
        ("Return the padded width", "Return the padded width"),
        ("return the padded width.", "return the padded width."),
    ],
)
def test_a_sentence_is_cut_where_it_stands(before: str, after: str) -> None:
    assert Withholder(held_out()).clean("other", before) == after


def test_what_a_cut_brings_together_is_cut_too() -> None:
    assert Withholder(held_out()).clean("other", "Return the Return the padded width. padded width. End.") == " End."


def test_a_passage_that_is_not_there_is_counted() -> None:
    withholder = Withholder(held_out())
    assert withholder.clean("page", "Only other words.") == "Only other words."
    assert withholder.withheld.unplaced == 1


def test_a_row_without_a_text_is_named() -> None:
    with pytest.raises(HerdError, match="held-out row 2"):
        Withholder([*held_out(), {"document_id": "a", "sentence": " ", "text": "b"}])


pieces = st.lists(
    st.sampled_from(
        ["Return", "the", "padded", "width.", "width", " ", "\n", "\n    ", '"""', "# ", "Other", SENTENCE]
    ),
    max_size=40,
).map("".join)


@given(pieces)
def test_no_text_keeps_the_sentence_and_only_whole_ones_are_cut(text: str) -> None:
    withholder = Withholder(held_out("elsewhere"))
    cleaned = withholder.clean("other", text)
    assert SENTENCE not in flat(cleaned)
    # What is left is the text without some of its characters; all that is not spacing was in a sentence or docstring.
    left = iter(text)
    assert all(character in left for character in cleaned)
    if withholder.withheld.docstrings:
        return
    gone = len("".join(text.split())) - len("".join(cleaned.split()))
    signs = text.count("#") - cleaned.count("#")
    assert gone - signs == withholder.withheld.sentences * len(SENTENCE.replace(" ", ""))
    if not re.search(r"Return[\s#]+the[\s#]+padded[\s#]+width\.", text):
        assert cleaned == text


def test_the_stage_leaves_no_sentence_in_training_and_counts_it(tmp_path: Path) -> None:
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    out.mkdir()
    code = f'def second(y):\n    """{SENTENCE}"""\n    return y\n'
    training = {"page": PAGE, "code": code, "all": SENTENCE, "far": "Quite other words\n\n  stay as they are."}
    tables = {"documents": training, "heldout": {"unseen": PAGE}, "rejects": {}}
    for name, texts in tables.items():
        with DocumentWriter(corpus / name, document_schema((), REASONS if name == "rejects" else ())) as writer:
            for identifier, text in texts.items():
                writer.add({"id": identifier, "text": text})
    characters = sum(len(text) for table in tables.values() for text in table.values())
    write_json(
        corpus / "stats.json", {"funnel": [{"step": "all", "documents": 5, "characters": characters, "heldout": 1}]}
    )
    write_jsonl(tmp_path / "texts.jsonl", [{"text": SENTENCE}])
    write_jsonl(tmp_path / "held_out.jsonl", held_out())
    arguments = (DecontaminateConfig(), corpus, tmp_path / "texts.jsonl", out, Progress.silent())
    decontaminate(*arguments, tmp_path / "held_out.jsonl")

    kept = {row["id"]: row["text"] for row in pq.read_table(out / "documents").to_pylist()}
    assert sorted(kept) == ["code", "far", "page"]
    assert not any(SENTENCE in flat(text) for text in kept.values())
    assert kept["far"] == training["far"]
    assert [row["text"] for row in pq.read_table(out / "heldout").to_pylist()] == [PAGE]
    assert [(row["id"], row["rule"]) for row in pq.read_table(out / "rejects").to_pylist()] == [("all", "withhold")]
    steps = json.loads((out / "stats.json").read_text())["funnel"]
    assert [step["step"] for step in steps] == ["all", "withhold held-out passages", "decontaminate evaluation texts"]
    assert steps[1]["documents"] == steps[2]["documents"] == 4
    assert steps[1]["characters"] == steps[2]["characters"] == sum(map(len, kept.values())) + len(PAGE)
    assert steps[1]["withheld"] == {
        "passages": 1, "unplaced": 0, "sentences": 2, "docstrings": 1, "documents": 3,
        "characters": characters - steps[1]["characters"],
    }  # fmt: skip


def test_without_withholding_a_short_sentence_slips_through(tmp_path: Path) -> None:
    """The reason for this module: fewer words than the n-gram of decontamination."""
    path = tmp_path / "texts.jsonl"
    write_jsonl(path, [{"text": SENTENCE}])
    assert Detector(load_items(path, DecontaminateConfig()), DecontaminateConfig()).clean(PAGE) == (PAGE, None)
