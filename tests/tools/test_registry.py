"""Tools from the built-in ones and from Python functions."""

import pytest

from herd.foundation.errors import HerdError
from herd.tools.registry import Tool, ToolSet, function_tool, python_tool, search_tool
from herd.tools.sandbox import Sandbox
from herd.tools.search import SearchIndex


def area(width: float, height: float = 1.0, label: str | None = None) -> dict:
    """Gives the area of a rectangle.

    More than the first paragraph is not shown.
    """
    return {"area": width * height, "label": label}


def test_a_function_becomes_a_tool() -> None:
    tool = function_tool(area)
    assert tool.schema() == {
        "type": "function",
        "function": {
            "name": "area",
            "description": "Gives the area of a rectangle.",
            "parameters": {
                "type": "object",
                "properties": {"width": {"type": "number"}, "height": {"type": "number"}, "label": {"type": "string"}},
                "required": ["width"],
            },
        },
    }
    assert tool.run({"width": 2, "height": 3}) == '{"area": 6, "label": null}'
    assert tool.run({"width": 2, "label": None}) == '{"area": 2.0, "label": null}'


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "area needs the argument 'width'"),
        ({"width": "2"}, "the argument 'width' of area is not of type number"),
        ({"width": True}, "the argument 'width' of area is not of type number"),
        ({"width": None}, "the argument 'width' of area is not of type number"),
        ({"width": 1, "depth": 2}, "area has no argument 'depth'"),
        ([1], "the arguments of area are not an object"),
    ],
)
def test_wrong_arguments_are_named(arguments: object, problem: str) -> None:
    tool = function_tool(area)
    assert tool.problem(arguments) == problem
    assert tool.run(arguments) == f"failed\n[stderr]{problem}[/stderr]"


def test_a_schema_may_name_several_types() -> None:
    schema = {"type": "object", "properties": {"x": {"type": ["integer", "null"]}, "y": {}}, "required": ["x"]}
    tool = Tool("f", "Does.", schema, lambda x, y=None: f"{x} {y}")
    assert tool.run({"x": None, "y": [1]}) == "None [1]"
    assert tool.problem({"x": 3}) is None
    assert tool.problem({"x": "3"}) == "the argument 'x' of f is not of type ['integer', 'null']"


def test_an_error_in_a_tool_is_text() -> None:
    def divide(a: int) -> float:
        """Divides one by a number."""
        return 1 / a

    assert function_tool(divide).run({"a": 0}) == "failed\n[stderr]ZeroDivisionError: division by zero[/stderr]"


def test_functions_that_cannot_be_tools_are_refused() -> None:
    def bare(a: int) -> int:
        return a

    def untyped(a) -> None:  # noqa: ANN001
        """Does something."""

    def spread(*a: int) -> None:
        """Does something."""

    for function, reason in ((bare, "docstring"), (untyped, "annotation"), (spread, "by name")):
        with pytest.raises(HerdError, match=reason):
            function_tool(function)


def test_built_in_tools(index: SearchIndex) -> None:
    assert search_tool(index).run({"query": "json.dumps"}).startswith("json.dumps(obj, *, ")
    if reason := Sandbox.unavailable():
        pytest.skip(f"not measured: {reason}")
    with Sandbox() as sandbox:
        texts = ToolSet([search_tool(index), python_tool(sandbox)]).texts()
        assert texts["python"]("6 * 7") == "completed\n[stdout]42[/stdout]"
        assert texts["search"]("json.dumps") == index.answer("json.dumps")


def test_two_tools_of_one_name_are_refused() -> None:
    tool = Tool("t", "Says t.", {"type": "object", "properties": {}}, lambda: "t")
    assert list(ToolSet([tool])) == ["t"]
    with pytest.raises(HerdError, match="two tools named t"):
        ToolSet([tool, tool])
