"""The chat templates of the other dialects, of dates and of images: what others render is what we encode."""

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
from transformers import AutoTokenizer

from herd.foundation.errors import HerdError
from herd.tokenizer.chat import ChatFormat
from herd.tokenizer.dialects import DIALECTS
from herd.tokenizer.tokenizer import Tokenizer
from tests.tokenizer.messages import META_DATES, SONGS, call, result, system, user

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'Tüt "es"',
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "array", "description": "d"}, "x": {}},
        },
    },
}
BARE = {"type": "function", "function": {"name": "bare"}}
BRAVE = {"type": "function", "function": {"name": "brave_search", "description": "b", "parameters": {}}}
NESTED = {"name": "g", "parameters": {"a": [1, -2.5, None, True, {"k": "v"}], "é": "ö"}}

OPENINGS = [
    [system(" Be  kind.\n"), user(" Hi \n")],
    [system(""), user("Hi")],
    [user([{"type": "text", "text": " B"}, {"type": "text", "text": "C "}])],
]
ANSWERS: dict[str, list[dict[str, Any]]] = {
    "text": [{"role": "assistant", "content": " It is so.\n"}, user(" And? "), system(" D ")],
    "function": [call(("weather", {"city": 'K"öln\\', "days": [1, 2.5, None, True]})), result(' "wet"\n')],
    "no arguments": [call(("bare", {})), {"role": "ipython", "content": "é"}],
    "search": [call(("brave_search", {"query": "a é <c>"})), result("found")],
    "code": [call(("code_interpreter", {"code": "if x:\n    print('ö')\n"})), result("completed")],
}
ONLY_META = {
    "words before a call": [call(("code_interpreter", {"code": "1"}), content="Let me see.")],
    "quotes": [call(("wolfram_alpha", {"query": 'a "b" \\'}))],
    "other arguments": [call(("brave_search", {"query": "x", "k": 2})), call(("code_interpreter", {}))],
}
PARALLEL = {
    "parallel": [call(("f", {"a": 1}), ("weather", {"city": "ö"})), result("1"), result("2", "c_1")],
    "nested": [call(("f", {"to": NESTED, "d": {"k": [False, "x"]}}), ("a.b", {}))],
}


class Reader:
    """Writes a tokenizer in one dialect and renders with ``transformers`` what it then reads."""

    def __init__(self, tokenizer: Tokenizer, dialect: str, place: Path) -> None:
        Tokenizer(tokenizer.ranks, tuple(tokenizer.special), dialect).save(place)
        self.theirs = AutoTokenizer.from_pretrained(place)
        self.chat = ChatFormat(Tokenizer.load(place), images=True)
        assert self.chat.dialect.name == dialect

    def check(self, messages: list[dict[str, Any]], tools: list[Any], dated: bool = False) -> None:
        """The same ids from both, for an open answer and a closed conversation."""
        published = self.chat.dialect.name == "huggingface"
        names = [tool for tool in tools if isinstance(tool, str)]
        objects = [tool for tool in tools if not isinstance(tool, str)]
        extra: dict[str, Any] = {"builtin_tools": names} if names else {}
        if dated:
            extra |= {"date_string": "21 Sep 2024"} if published else {"today_date": "21 September 2024"}
        for opened in (False, True):
            theirs = self.theirs.apply_chat_template(
                messages, tools=objects or None, add_generation_prompt=opened, return_dict=False, **extra
            )
            dates = META_DATES if dated else None
            assert theirs == self.chat.encode(messages, tools=tools, dates=dates, open_assistant=opened).ids


@pytest.fixture(scope="module")
def readers(small: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    return {name: Reader(small, name, tmp_path_factory.mktemp(name)) for name in DIALECTS}


@pytest.mark.parametrize("dated", [False, True])
@pytest.mark.parametrize("dialect", ["meta", "meta-function-tags", "huggingface"])
def test_transformers_renders_what_we_encode(readers: dict[str, Reader], dialect: str, dated: bool) -> None:
    reader = readers[dialect]
    answers = ANSWERS | (ONLY_META if dialect != "huggingface" else {}) | (PARALLEL if dialect == "meta" else {})
    built_in = ["brave_search", "code_interpreter"] if dialect == "huggingface" else [BRAVE]
    for opening in OPENINGS:
        for answer in answers.values():
            for tools in ([], built_in, [SONGS], [*built_in, WEATHER, SONGS, BARE]):
                reader.check(opening + answer, tools, dated)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dates_and_images_are_rendered_alike(readers: dict[str, Reader], dialect: str) -> None:
    image = user([{"type": "text", "text": " What is "}, {"type": "image"}, {"type": "text", "text": "this? "}])
    for messages in ([image], [system("Be kind."), image], [system("x")]):
        for tools in ([], ["brave_search"] if dialect == "huggingface" else [BRAVE]):
            for dated in (False, True):
                readers[dialect].check(messages, tools, dated)


@pytest.mark.parametrize(
    ("dialect", "messages", "message"),
    [
        ("huggingface", [user("?"), call(("f", {}), ("f", {}))], "one tool call a message"),
        ("huggingface", [user("?"), call(("f", {}), content="So:")], "words beside a call"),
        ("huggingface", [user("?"), call(("brave_search", {"a": "1", "b": "2"}))], "needs one argument"),
        ("huggingface", [{"role": "robot", "content": "x"}], "the role robot does not exist"),
        ("meta-function-tags", [call(("f", {}), ("f", {}))], "one tool call a message"),
        ("meta-function-tags", [call(("f", {}), content="So:")], "words beside a call"),
        ("meta", [call(("f", {}), ("f", {}), content="So:")], "words beside a call"),
        ("meta", [{"role": "robot", "content": "x"}], "the role robot does not exist"),
    ],
)
def test_what_cannot_be_rendered_says_so(
    readers: dict[str, Reader], dialect: str, messages: list, message: str
) -> None:
    built_in = ["brave_search"] if dialect == "huggingface" else []
    with pytest.raises(jinja2.TemplateError, match=message):
        readers[dialect].theirs.apply_chat_template(messages, builtin_tools=built_in)
    with pytest.raises(HerdError):
        readers[dialect].chat.encode(messages, tools=built_in)


def test_functions_need_a_first_user_message(readers: dict[str, Reader]) -> None:
    for messages in ([system("x")], [{"role": "assistant", "content": "x"}]):
        with pytest.raises(jinja2.TemplateError, match="functions stand in the first user message"):
            readers["huggingface"].theirs.apply_chat_template(messages, tools=[SONGS])


def test_a_directory_brings_its_dialect(small: Tokenizer, tmp_path: Path) -> None:
    Tokenizer(small.ranks, dialect="meta").save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    assert Tokenizer.load(tmp_path).dialect == Tokenizer.load(tmp_path / "tokenizer.model").dialect == "meta"
    published = "{{ builtin_tools }} Cutting Knowledge Date: December 2023 Given the following functions"
    for template, expected in ((published, "huggingface"), ("{{ messages }}", "herd"), (3, "herd"), (None, "herd")):
        path.write_text(json.dumps(config | {"chat_template": template}))
        assert Tokenizer.load(tmp_path).dialect == expected
    path.write_text("[]")
    assert Tokenizer.load(tmp_path).dialect == "herd"
    (tmp_path / "chat_template.jinja").write_text(published)
    assert Tokenizer.load(tmp_path).dialect == "huggingface"
    (tmp_path / "chat_template.jinja").write_text('{#- Herd, dialect "chatml" -#}')
    with pytest.raises(HerdError, match="there is no chat dialect 'chatml'; use herd, meta"):
        Tokenizer.load(tmp_path)


def test_what_transformers_saves_again_keeps_the_dialect(readers: dict[str, Reader], tmp_path: Path) -> None:
    for dialect, reader in readers.items():
        reader.theirs.save_pretrained(tmp_path / dialect)
        assert Tokenizer.load(tmp_path / dialect).dialect == dialect
