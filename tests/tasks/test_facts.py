"""Which passages a question can be asked about."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from herd.foundation.errors import HerdError
from herd.tasks.facts import read_facts, sentence_key, why_unusable


@pytest.mark.parametrize(
    "sentence",
    [
        "Serialize ``obj`` to a JSON formatted ``str``.",
        "Return the inverse hyperbolic sine of x.",
        "Returns (a, b) as a pair of numbers.",
        "Bind to all items with TAGORID a call to function FUNC.",
        "Merge *iterables* into one [sorted] list.",
    ],
)
def test_whole_sentences_serve(sentence: str) -> None:
    assert why_unusable("json.dumps", sentence, 120) is None


@pytest.mark.parametrize(
    ("name", "sentence", "reason"),
    [
        ("json", "Return a thing of use.", "not dotted"),
        ("json._dumps", "Return a thing of use.", "private"),
        ("json.dumps.__call__", "Return a thing of use.", "special"),
        ("A title with words", "Return a thing of use.", "not dotted"),
        ("a." + "b" * 40, "Return a thing of use.", "name is long"),
        ("json.dumps", "", "short"),
        ("json.dumps", "Too short.", "short"),
        ("json.dumps", "Return " + "a very " * 30 + "long thing.", "is long"),
        ("json.dumps", "Return a thing without an end", "whole"),
        ("json.dumps", "return a thing of use.", "whole"),
        ("json.dumps", "Return one thing. Return another.", "whole"),
        ("json.dumps", "Return a thing (or not.", "whole"),
        ("json.dumps", "Return a `thing of use.", "whole"),
        ("json.dumps", "Return something useful, e.g.", "whole"),
        ("json.dumps", "Return a thing:\n    of use.", "whole"),
        ("json.dumps", "Return a  thing of use.", "whole"),
        ("json.dumps", "Rückgabe eines Werts hier.", "whole"),
        ("json.dumps", 'Return a "quoted" thing of use.', "markup"),
        ("json.dumps", "Return a :class:`thing` of use.", "markup"),
        ("json.dumps", "See https://example.org for it.", "markup"),
        ("json.dumps", "Dumps(obj) -> str is the form.", "markup"),
        ("json.dumps", "Return a back\\slash of use.", "markup"),
    ],
)
def test_fragments_and_markup_do_not(name: str, sentence: str, reason: str) -> None:
    assert reason in str(why_unusable(name, sentence, 120))


def test_shared_sentences_and_double_names_are_dropped(tmp_path: Path) -> None:
    def row(name: str, sentence: str) -> dict[str, str]:
        return {"name": name, "summary": sentence, "text": sentence, "url": "u", "package": "p", "document_id": "d"}

    table = [row(f"m.f{n}", "Helper for pickle of things.") for n in range(4)]
    table += [row("m.a", "Return the length of it."), row("n.a", "return the length of IT")]
    table += [row("n.b", "Return the length of it."), row("m.twice", "Do this one thing now.")]
    table += [row("m.twice", "Do that other thing now.")]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "passages.parquet")
    facts = read_facts(tmp_path, 120)
    assert [fact.name for fact in facts.usable] == ["m.a", "n.b"]
    assert facts.names == {row["name"] for row in table}
    assert facts.dropped["many names share the sentence"] == 4
    assert facts.dropped["the name has several passages"] == 2
    assert sum(facts.dropped.values()) + len(facts.usable) == len(table)


def test_equal_keys_say_the_same() -> None:
    assert sentence_key("Return the `length` of it.") == sentence_key("return the length\n of it")
    assert sentence_key("Return it.") != sentence_key("Return them.")


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match="there is no such file"):
        read_facts(tmp_path, 120)
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "passages.parquet")
    with pytest.raises(HerdError, match="not readable as passages"):
        read_facts(tmp_path, 120)
