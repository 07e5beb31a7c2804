"""Synthesis: every dialogue is right by its verifier, swapped pages cannot be remembered, leaks and doubles go."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from herd.align.decontamination import Decontaminator
from herd.align.examples import encode_dialogue
from herd.align.synthesis import SynthesisConfig, quality_problem, synthesise
from herd.foundation.files import read_json, read_jsonl, write_jsonl
from herd.foundation.progress import Progress
from herd.model.loss import IGNORE
from herd.tasks.makers import counting
from herd.tasks.task import Task
from herd.tasks.verifiers import NO_RESULTS, verify
from herd.tokenizer.chat import ChatFormat

PAGES = {
    "json.dumps": "Serialize an object to a JSON formatted string.",
    "os.path.join": "Join one or more path components.",
    "math.gcd": "Return the greatest common divisor of the integers.",
    "shutil.rmtree": "Recursively delete a directory tree.",
    "textwrap.dedent": "Remove common leading whitespace from every line.",
}


def search(query: str) -> str:
    query = query.strip()
    return f"{query}(*args)\n{PAGES[query]} More about it here." if query in PAGES else NO_RESULTS


def python(code: str) -> str:
    try:
        return f"completed\n[stdout]{eval(code)}[/stdout]"
    except (SyntaxError, NameError) as error:
        return f"failed\n[stderr]{error}[/stderr]"


TOOLS: dict[str, Callable[[str], str]] = {"search": search, "python": python}


def tasks() -> list[Task]:
    made = []
    for number, (name, sentence) in enumerate(sorted(PAGES.items())):
        user = [{"role": "user", "content": f"What does {name} do?"}]
        expected = {"name": name, "query": name, "answer": sentence}
        made.append(Task(f"l{number}", "lookup", "name", "train", "seen", user, ["search", "python"], expected))
        code, answer = counting("letter", sentence, "e")
        user = [{"role": "user", "content": f"How often is the letter e in the first sentence about {name}?"}]
        expected = {"name": name, "query": name, "sentence": sentence, "code": code, "answer": str(answer)}
        made.append(Task(f"t{number}", "two_step", "letter", "train", "seen", user, ["search", "python"], expected))
    user = [{"role": "user", "content": "What is 6 * 7?"}]
    made.append(Task("a", "arithmetic", "a * b", "train", "seen", user, ["python"], {"code": "6 * 7", "answer": "42"}))
    user = [{"role": "user", "content": "What is 6 * 8?"}]
    made.append(Task("b", "arithmetic", "a * b", "train", "seen", user, ["python"], {"code": "6 * 8", "answer": "49"}))
    return made


@pytest.fixture
def made(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "train.jsonl", [task.to_json() for task in tasks()])
    texts = [{"id": "x", "role": "answer", "text": "Recursively delete a directory tree."}]
    write_jsonl(tmp_path / "evaluation_texts.jsonl", texts)
    out = tmp_path / "out"
    out.mkdir()
    synthesise(
        SynthesisConfig(swapped=3, joined=0.3, same_answer=1.0, stumbling=1.0), tmp_path, TOOLS, out, Progress.silent()
    )
    return out


def test_what_could_not_be_solved_is_left_out_and_counted(made: Path) -> None:
    assert read_json(made / "stats.json")["unsolved"]["arithmetic"] == 1
    assert not any(row["task"] == "b" for row in read_jsonl(made / "dialogues.jsonl"))


def test_solved_dialogues_satisfy_their_verifier(made: Path) -> None:
    by_id = {task.id: task for task in tasks()}
    solved = [row for row in read_jsonl(made / "dialogues.jsonl") if row["make"] == "solved"]
    assert len(solved) >= 8
    for row in solved:
        verdict = verify(by_id[row["task"]], row["messages"])
        assert verdict.correct
        assert verdict.well_formed
        assert verdict.grounded


def test_swapped_pages_put_other_sentences_under_invented_names(made: Path) -> None:
    swapped = [row for row in read_jsonl(made / "dialogues.jsonl") if row["make"] == "swapped"]
    assert len(swapped) > 10
    tangled = []
    for row in swapped:
        user, result = row["messages"][0]["content"], row["messages"][2]["content"]
        heading, _, body = result.partition("\n")
        name = heading.removesuffix("(*args)")
        assert name in user
        sentence = body[: body.index(".") + 1]
        leaf = name.rpartition(".")[2]
        own = set(sentence.split()) - {leaf, f"`{leaf}`"}
        assert any(own <= set(said.split()) for said in PAGES.values())
        tangled.append(sentence not in PAGES.values())
        if row["kind"] == "lookup":
            assert row["messages"][-1]["content"] == sentence
        else:
            assert re.search(r"\d+", row["messages"][-1]["content"]).group() == str(sentence.count("e"))
    assert 0 < sum(tangled) < len(tangled)
    invented = [row["messages"][2]["content"].partition("(")[0] for row in swapped]
    assert sum(name not in PAGES for name in invented) > len(invented) / 2


def test_a_slip_is_read_and_mended_and_not_learnt(made: Path, chat: ChatFormat) -> None:
    stumbled = [row for row in read_jsonl(made / "dialogues.jsonl") if row["make"] == "stumbled"]
    assert stumbled
    for row in stumbled:
        calls = [message for message in row["messages"] if message.get("tool_calls")]
        slip, mended = calls[-2:]
        assert [call.get("trained", True) for call in calls] == [True] * (len(calls) - 2) + [False, True]
        codes = [json.loads(call["tool_calls"][0]["function"]["arguments"])["code"] for call in (slip, mended)]
        assert row["messages"][row["messages"].index(slip) + 1]["content"].startswith("failed")
        assert str(eval(codes[1])) == row["messages"][-1]["content"].rstrip(".")
        example = encode_dialogue(chat, row)
        said = chat.tokenizer.decode([token for token in example.targets if token != IGNORE])
        assert f"{codes[0]}<|eom_id|>" not in said
        assert said.count(f"{codes[1]}<|eom_id|>") == 1
        assert f"{codes[0]}<|eom_id|>" in chat.tokenizer.decode(example.tokens)


def test_a_page_may_stand_in_the_question_itself(made: Path) -> None:
    pasted = [row for row in read_jsonl(made / "dialogues.jsonl") if row["make"] == "pasted"]
    assert pasted
    for row in pasted:
        user, call, result, answer = row["messages"]
        code = json.loads(call["tool_calls"][0]["function"]["arguments"])["code"]
        assert re.search(r'"(.*?)"', code).group(1) in user["content"]
        assert str(eval(code)) in result["content"]
        assert str(eval(code)) == re.search(r"\d+", answer["content"]).group()


def test_no_kept_dialogue_holds_a_reference_answer(made: Path) -> None:
    kept, rejects = (list(read_jsonl(made / name)) for name in ("dialogues.jsonl", "rejects.jsonl"))
    assert not any("Recursively delete a directory tree" in str(row["messages"]) for row in kept)
    leaks = [row for row in rejects if row["reason"] == "a reference answer of the evaluation"]
    assert any("Recursively delete" in str(row["messages"]) for row in leaks)
    assert read_json(made / "stats.json")["rejected"]["a reference answer of the evaluation"] == len(leaks)


def test_conversations_keep_one_system_message_and_several_questions(made: Path) -> None:
    joined = [row for row in read_jsonl(made / "dialogues.jsonl") if row["make"] == "joined"]
    assert joined
    assert all(sum(message["role"] == "user" for message in row["messages"]) >= 2 for row in joined)


def test_decontamination_sees_through_case_and_markup_but_allows_shared_phrasings() -> None:
    frame = "How many characters are in the first sentence about {}?"
    texts = [{"role": "prompt", "text": frame.format(name)} for name in ("os.path.join", "json.dumps", "re.sub", "zip")]
    texts.append({"role": "answer", "text": "Return the greatest common divisor of all the given integers."})
    leaks = Decontaminator(texts)

    def why(text: str) -> str | None:
        return leaks.why([{"role": "user", "content": text}])

    assert why(frame.format("textwrap.dedent")) is None
    assert why("how many CHARACTERS are in the first sentence about json.dumps") == "a prompt of the evaluation"
    assert why("Well: `Return the  greatest common divisor of all the\ngiven INTEGERS`!") is not None
    assert why("greatest common divisor of all the given numbers") is None
    assert why("the greatest common divisor of all the given numbers") == "eight words in a row of the evaluation"


def test_what_training_asks_thrice_is_a_phrasing_and_once_a_leak() -> None:
    frame = "What do you get when you count the words in the first sentence of {}?"
    texts = [{"role": "prompt", "text": frame.format("json.dumps")}]
    dialogue = [{"role": "user", "content": frame.format("os.walk")}]
    assert Decontaminator(texts).why(dialogue) == "eight words in a row of the evaluation"
    others = [frame.format(name) for name in ("re.sub", "re.match", "zlib.crc32")]
    assert Decontaminator(texts, others[:1]).why(dialogue) is not None
    assert Decontaminator(texts, others).why(dialogue) is None
    assert Decontaminator(texts, others).why([{"role": "user", "content": frame.format("json.dumps")}]) is not None


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("Fine.", None),
        ("", "no final answer"),
        ("Great!!!", "too many exclamation marks or broken text"),
        ("Yes<|eot_id|>", "a control token in an answer"),
        ("x" * 200, "too long"),
    ],
)
def test_quality_rules(answer: str, problem: str | None) -> None:
    messages = [{"role": "user", "content": "Hello!!!!"}, {"role": "assistant", "content": answer}]
    assert quality_problem(messages, longest=100) == problem
