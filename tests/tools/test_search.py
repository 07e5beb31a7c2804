"""Search: the right page by its name, a ranking for words, and no string that breaks it."""

import json
import sqlite3
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herd.foundation.errors import HerdError
from herd.foundation.progress import Progress
from herd.tools.passages import read_passages
from herd.tools.search import INDEX_NAME, NO_RESULTS, Hit, SearchConfig, SearchIndex, build_index, shorten, split_words


def test_every_name_finds_its_own_passage_first(index: SearchIndex, corpus: Path) -> None:
    for passage in read_passages(corpus):
        [hit] = index.search(passage.name)
        assert (hit.name, hit.summary, hit.url) == (passage.name, passage.summary, passage.url)
        for spelling in (f"{passage.name}()", f"`{passage.name}`", f" {passage.name}? ", f"what is {passage.name} for"):
            assert index.search(spelling)[0].name == passage.name, spelling


def test_a_name_that_nobody_documents_has_no_hit(index: SearchIndex) -> None:
    for name in ("json.dumpz", "json.dumps.x", "jso.dumps", "shutil.dumps", "json._dumps", "x.y.z"):
        assert index.search(name, k=5) == []
        assert index.answer(name) == NO_RESULTS


def test_parts_of_names_and_other_cases_are_found(index: SearchIndex) -> None:
    assert index.search("dumps")[0].name == "json.dumps"
    assert index.search("path.join")[0].name == "os.path.join"
    assert index.search("JSON.Dumps")[0].name == "json.dumps"
    assert index.search("jsonencoder")[0].name == "json.JSONEncoder"


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("remove a directory tree", "shutil.rmtree"),
        ("serialize an object to a JSON formatted string", "json.dumps"),
        ("common leading whitespace", "textwrap.dedent"),
        ("how do I expand the ~ of a home directory", "os.path.expanduser"),
        ("disk usage", "shutil.disk_usage"),
        ("JSON encoder", "json.JSONEncoder"),
    ],
)
def test_words_find_the_passage_that_is_about_them(index: SearchIndex, query: str, name: str) -> None:
    assert name in [hit.name for hit in index.search(query, k=2)]


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.text(alphabet="\"'()*:^-+ANDORNEAR{}.~ \x00\udcff%_;", max_size=40)))
def test_any_string_is_a_query(index: SearchIndex, query: str) -> None:
    assert len(index.search(query, k=3)) <= 3
    assert index.answer(query)


@pytest.mark.parametrize(
    "query",
    ["", " ", '"', "name:join", "a NEAR/2 b", "join AND", "NOT x", "x*", "(", "'; DROP TABLE meta", "a" * 10000],
)
def test_operators_are_plain_words(index: SearchIndex, query: str) -> None:
    index.search(query)
    assert len(index) > 50


def test_answers_are_short_and_begin_with_the_first_sentence(index: SearchIndex, corpus: Path) -> None:
    first = "Remove any common leading whitespace from every line in `text`."
    assert index.answer("textwrap.dedent") == f"textwrap.dedent(text)\n{first}"
    for passage in read_passages(corpus):
        head, _, body = index.answer(passage.name).partition("\n")
        assert len(head) <= index.config.signature_characters
        assert body.startswith(passage.summary)
        assert len(head) + 1 + len(body) <= max(index.config.result_characters, len(head) + 1 + len(passage.summary))


def test_tables_of_parameters_are_left_out() -> None:
    text = "f(x)\nAdds one. Really.\n\nParameters\n----------\nx : int\n    A number."
    hit = Hit("m.f", "m.f(x)", "Adds one.", text, "", "", "")
    assert hit.wire(SearchConfig()) == "m.f(x)\nAdds one. Really."


def test_hidden_names_never_come_back(index: SearchIndex, corpus: Path, tmp_path: Path) -> None:
    build_index(SearchConfig(), corpus, tmp_path, Progress.silent())
    closed = SearchIndex(tmp_path, hidden=["json.dumps", "json.dump"])
    assert closed.search("json.dumps") == []
    assert {"json.dump", "json.dumps"} & {hit.name for hit in index.search("serialize JSON", k=5)}
    assert not {"json.dump", "json.dumps"} & {hit.name for hit in closed.search("serialize JSON", k=5)}
    assert len(closed.search("serialize JSON", k=5)) == 5


def test_the_same_passages_give_the_same_answers_in_any_thread(
    index: SearchIndex, corpus: Path, tmp_path: Path
) -> None:
    build_index(SearchConfig(), corpus, tmp_path, Progress.silent())
    other = SearchIndex(tmp_path / INDEX_NAME)
    queries = ["return a copy", "path", "remove files", "string", "join"]
    expected = [index.search(query, k=5) for query in queries]
    found: list[list[list[Hit]]] = []
    threads = [
        threading.Thread(target=lambda: found.append([other.search(query, k=5) for query in queries])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_the_index_is_opened_read_only(index: SearchIndex) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        index._database.execute("DELETE FROM passages")


def test_limits_are_kept_in_the_index(corpus: Path, tmp_path: Path) -> None:
    build_index(SearchConfig(result_characters=100, signature_characters=20), corpus, tmp_path, Progress.silent())
    opened = SearchIndex(tmp_path)
    assert opened.config.result_characters == 100
    assert all(len(opened.answer(name)) <= 100 for name in ("json.dumps", "json.JSONDecoder", "shutil.move"))
    stats = json.loads((tmp_path / "stats.json").read_text())
    assert stats["passages"] == len(opened)


def test_mistakes_are_named(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(HerdError, match=r"passages\.parquet: there is no such file"):
        build_index(SearchConfig(), tmp_path, tmp_path, Progress.silent())
    (tmp_path / "passages.parquet").write_bytes(b"no parquet")
    with pytest.raises(HerdError, match="not readable as Parquet"):
        build_index(SearchConfig(), tmp_path, tmp_path, Progress.silent())
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "passages.parquet")
    with pytest.raises(HerdError, match="'document_id'"):
        build_index(SearchConfig(), tmp_path, tmp_path, Progress.silent())
    empty = pq.read_table(corpus / "passages.parquet").slice(0, 0)
    pq.write_table(empty, tmp_path / "passages.parquet")
    with pytest.raises(HerdError, match="no passages to index"):
        build_index(SearchConfig(), tmp_path, tmp_path, Progress.silent())
    assert not (tmp_path / INDEX_NAME).exists()
    with pytest.raises(HerdError, match="not a search index"):
        SearchIndex(tmp_path)
    (tmp_path / INDEX_NAME).write_bytes(b"nothing")
    with pytest.raises(HerdError, match="not a search index"):
        SearchIndex(tmp_path)


def test_words_of_names() -> None:
    assert split_words("os.path.getSizeOf_all") == "os path get Size Of all"
    assert split_words("json.JSONEncoder") == "json JSON Encoder"


def test_shortened_signatures_end_at_a_parameter() -> None:
    assert shorten("m.f(a, bb, ccc)", 12) == "m.f(a,..."
    assert shorten("m.f(a)", 12) == "m.f(a)"
    for limit in range(8, 40):
        assert len(shorten("module.function(first, second=None, *, third='x')", limit)) <= limit
