"""Dialogues that cannot be written are named by their file and their place in it."""

import json
from pathlib import Path

import pytest

from herd.align.examples import encode_dialogues, read_dialogues
from herd.foundation.errors import HerdError
from herd.tokenizer.chat import ChatFormat

from .conftest import answer, question, result


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([{"role": "wizard", "content": "x"}], "message 0: the role 'wizard' does not exist"),
        ([*question("Hi"), result("x")], "message 1: a tool result without a call before it"),
        ([*question("a\ud800b")], r"message 0: the text holds a lone surrogate \(U\+D800\) at character 1"),
        (["Hi"], "one of its messages is no object"),
    ],
)
def test_what_cannot_be_written_is_named_with_its_file(
    chat: ChatFormat, tmp_path: Path, messages: list, sentence: str
) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(
        "".join(
            json.dumps(row) + "\n" for row in [{"messages": [*question("Hi"), answer("Yo")]}, {"messages": messages}]
        )
    )
    with pytest.raises(HerdError, match=rf"d\.jsonl, dialogue 2: {sentence}"):
        encode_dialogues(chat, list(read_dialogues([path])), longest=300)
