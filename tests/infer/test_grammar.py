"""Whatever a random model wants to say, its output fits the grammar."""

import json
import re
from collections.abc import Callable

import pytest

from herd.foundation.errors import HerdError
from herd.infer.engine import Engine
from herd.infer.grammar import Grammar, GrammarCompiler
from herd.infer.sampling import Sampling
from herd.tokenizer.tokenizer import Tokenizer

MakeEngine = Callable[..., Engine]

CALL = {
    "type": "object",
    "properties": {
        "name": {"enum": ["search", "python"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 20},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 2},
        "exact": {"type": "boolean"},
    },
    "required": ["name", "count", "tags", "exact"],
    "additionalProperties": False,
}


def fits(value: object) -> bool:
    """The schema above, spelled out by hand."""
    return (
        isinstance(value, dict)
        and set(value) == {"name", "count", "tags", "exact"}
        and value["name"] in ("search", "python")
        and type(value["count"]) is int
        and 1 <= value["count"] <= 20
        and isinstance(value["tags"], list)
        and len(value["tags"]) <= 2
        and all(isinstance(tag, str) and len(tag) <= 5 for tag in value["tags"])
        and isinstance(value["exact"], bool)
    )


@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
def test_every_output_under_a_schema_parses_and_validates(make_engine: MakeEngine, temperature: float) -> None:
    sampling = Sampling(
        max_tokens=120, temperature=temperature, top_p=1, seed=1, grammar=Grammar.json_schema(CALL), logprobs=0
    )
    for row in make_engine().generate([[65], [66, 67]], sampling, n=8):
        for completion in row:
            assert completion.finish_reason in ("stop", "eom")
            assert fits(json.loads(completion.text)), completion.text


def test_regular_expressions_match_from_end_to_end(make_engine: MakeEngine) -> None:
    sampling = Sampling(max_tokens=40, temperature=3, top_p=1, grammar=Grammar.regex(r"[a-c]{2,4}-\d+!"), seed=1)
    for [completion] in make_engine().generate([[65], [66], [67]], sampling):
        whole = re.fullmatch(r"[a-c]{2,4}-\d+!", completion.text)
        assert whole or completion.finish_reason == "length"


def test_choices_are_literal(make_engine: MakeEngine) -> None:
    choices = ["yes", "no (a|b)", "x.y*", "naïve", "[0-9]-$", "a/b#~&"]
    sampling = Sampling(max_tokens=40, temperature=50, top_p=1, grammar=Grammar.choice(choices), seed=1)
    answers = {completion.text for [*row] in [make_engine().generate([[65]], sampling, n=60)[0]] for completion in row}
    assert answers <= set(choices)
    assert len(answers) > 3


def test_bound_and_free_requests_run_together(make_engine: MakeEngine) -> None:
    engine = make_engine()
    free = Sampling(max_tokens=10, temperature=0, stop_ids=())
    bound = Sampling(max_tokens=10, temperature=0, grammar=Grammar.choice(["ab"]))
    [[alone]] = engine.generate([[65]], free)
    [[first], [second], [third]] = engine.generate([[65], [66], [65]], [free, bound, free])
    assert (first.ids, second.text, third.ids) == (alone.ids, "ab", alone.ids)


def test_control_tokens_never_pass_as_text(tokenizer: Tokenizer) -> None:
    compiler = GrammarCompiler(tokenizer, tokenizer.vocab_size + 3)
    allowed = compiler.mask([compiler.matcher(Grammar.regex("(?s:.*)"))])[0].nonzero().squeeze(1).tolist()
    assert {token for token in allowed if token >= len(tokenizer.ranks)} == set(tokenizer.stop_ids)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Grammar.regex("(a"),
        lambda: Grammar.json_schema({"type": "colour"}),
        lambda: Grammar.json_schema("{"),
        lambda: Grammar.choice([]),
        lambda: Grammar.choice(["a", ""]),
    ],
)
def test_impossible_grammars_are_refused(make: object) -> None:
    with pytest.raises(HerdError):
        make()
