"""What comes out beside ids and masks: spans, images, the prompt of Llama Guard; in every dialect."""

import pytest

from herd.foundation.errors import HerdError
from herd.tokenizer.chat import ChatFormat
from herd.tokenizer.tokenizer import Tokenizer
from tests.llama_guard import official_prompt
from tests.tokenizer.messages import HEADER, SONGS, call, result, system, user


def test_spans_follow_one_another_and_say_what_is_where(chat: ChatFormat) -> None:
    interpreter = chat.dialect.interpreter
    messages = [system("Be kind."), user("Hi"), call((interpreter, {"code": "1"})), result("1"), user("")]
    messages.append({"role": "assistant", "content": "One."})
    encoded = chat.encode(messages, tools=["brave_search", interpreter, SONGS], open_assistant=True)
    spans = encoded.spans
    assert [span.start for span in spans] == [0, *(span.end for span in spans[:-1])]
    assert spans[-1].end == len(encoded.ids)
    assert all(span.start < span.end for span in spans)
    for span in spans:
        said = span.role == "assistant" and span.part in ("content", "call", "end")
        assert set(encoded.mask[span.start : span.end]) == {said}
    decode = chat.tokenizer.decode
    found = {(s.message, s.part): decode(encoded.ids[s.start : s.end]) for s in spans if s.role == "assistant"}
    assert found[5, "content"] == "One."
    assert found[2, "call"].startswith("<|python_tag|>")
    assert found[2, "end"] == "<|eom_id|>"
    assert found[None, "header"] == HEADER
    roles = [span.role for span in spans if span.part == "header" and span.message is not None]
    assert roles == ["system", "user", "assistant", "ipython", "user", "assistant"]
    assert (4, "content") not in {(span.message, span.part) for span in spans}


def test_an_image_is_one_control_token_where_the_model_reads_them(chat: ChatFormat) -> None:
    seeing = ChatFormat(chat.tokenizer, chat.dialect.name, images=True)
    parts = [{"type": "image"}, {"type": "text", "text": " a "}, {"type": "image_url", "image_url": {"url": "x"}}]
    parts.append({"type": "text", "text": "<|image|>"})
    ids = seeing.encode([user(parts)]).ids
    assert ids.count(chat.tokenizer.special_id("<|image|>")) == 2
    assert seeing.render([user(parts)]).endswith("\n\n<|image|> a <|image|><|image|><|eot_id|>")
    with pytest.raises(HerdError, match="message 0: it holds an image, and this model reads text alone"):
        chat.encode([user(parts)])


def test_llama_guards_prompt(small: Tokenizer) -> None:
    chat = ChatFormat(small)
    messages = [user("Where is it?"), {"role": "assistant", "content": "There."}]
    encoded = chat.encode_guard(messages)
    header = "<|start_header_id|>{}<|end_header_id|>\n\n"
    asked = f"<|begin_of_text|>{header.format('user')}{official_prompt('Where is it?', 'There.')}<|eot_id|>"
    assert small.decode(encoded.ids) == asked + header.format("assistant")
    assert not any(encoded.mask)
    fewer = small.decode(chat.encode_guard(messages[:1], ["S1", "S10"]).ids)
    assert "CATEGORIES>\nS1: Violent Crimes.\nS10: Hate.\n<END" in fewer
    assert fewer.count("'User'") == fewer.count("ONLY THE LAST User") == 1
    for wrong, sentence in (
        ([], "there is no message to judge"),
        ([system("x")], "message 0: Llama Guard judges users and assistants, not 'system'"),
    ):
        with pytest.raises(HerdError, match=sentence):
            chat.encode_guard(wrong)
    with pytest.raises(HerdError, match="'S15' is no category of Llama Guard 3"):
        chat.encode_guard(messages, ["S15"])
