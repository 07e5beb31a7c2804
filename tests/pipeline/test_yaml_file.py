"""Mistakes in a recipe: the file, the line, the key, and what was probably meant."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from herd.foundation.config import Config
from herd.foundation.errors import HerdError
from herd.pipeline.yaml_file import load_yaml


class Html(Config):
    kind: Literal["html"]
    path: str


class Warc(Config):
    kind: Literal["warc"]
    path: str
    resume: bool = True


class Shape(Config):
    layers: int = Field(gt=0)
    heads: int = 4


class Shelf(Config):
    shape: Shape


class Book(Config):
    seed: int = 0
    sources: list[Html | Warc] = []
    models: dict[str, Shape] = {}


def load(tmp_path: Path, text: str, *overrides: str) -> Book:
    path = tmp_path / "book.yaml"
    path.write_text(text)
    return load_yaml(Book, path, overrides)


def test_a_good_file_with_overrides(tmp_path: Path) -> None:
    book = load(tmp_path, "seed: 3\nmodels:\n  3m: {layers: 2}\n", "models.3m.heads=8", "seed=5")
    assert book == Book(seed=5, models={"3m": Shape(layers=2, heads=8)})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed: 1\nmodles: {}\n", r"book\.yaml, line 2: modles: there is no such key; did you mean models\?"),
        ("models:\n  3m:\n    layers: 2\n    head: 3\n", r"line 4: models\.3m\.head: .*did you mean heads"),
        ("seed: many\n", r"line 1: seed: input should be a valid integer"),
        ("models:\n  3m:\n    layers: 0\n", r"line 3: models\.3m\.layers: input should be greater than 0"),
        ("models:\n  3m: {heads: 2}\n", r"line 2: models\.3m\.layers: the key is missing"),
        ("seed: 1\nseed: 2\n", r"line 2: seed: the key is given twice"),
        ("seed: [1\n", r"line 2: not YAML"),
        ("- 1\n", r"this is no mapping"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(HerdError, match=sentence):
        load(tmp_path, text)


def test_overrides_are_held_to_the_same_rules(tmp_path: Path) -> None:
    with pytest.raises(HerdError, match=r"^--set sed=2: sed: there is no such key; did you mean seed"):
        load(tmp_path, "seed: 1\n", "sed=2")
    with pytest.raises(HerdError, match=r"^--set seed=many: seed: input should be a valid integer"):
        load(tmp_path, "seed: 1\n", "seed=many")
    with pytest.raises(HerdError, match=r"^--set models\.3m\.heads=x: models\.3m\.heads: input should be"):
        load(tmp_path, "models:\n  3m: {layers: 2, heads: 1}\n", "models.3m.heads=x")
    with pytest.raises(HerdError, match=r"book\.yaml, line 2: models\.3m\.layers: the key is missing"):
        load(tmp_path, "models:\n  3m: {heads: 1}\n", "models.3m.heads=2")
    with pytest.raises(HerdError, match=r"^--set model\.3m\.heads=2: model: there is no such key; did you mean models"):
        load(tmp_path, "seed: 1\n", "model.3m.heads=2")
    with pytest.raises(HerdError, match="is a directory, not a YAML file"):
        load_yaml(Book, tmp_path)
    with pytest.raises(HerdError, match="write it as key=value"):
        load(tmp_path, "seed: 1\n", "seed")
    with pytest.raises(HerdError, match=r"--set seed=\[1: not YAML"):
        load(tmp_path, "seed: 1\n", "seed=[1")
    with pytest.raises(HerdError, match="not a place below which"):
        load(tmp_path, "seed: 1\n", "seed.deep=2")


def test_without_a_file_the_overrides_are_laid_over_the_defaults() -> None:
    assert load_yaml(Book, None, ["seed=4"]) == Book(seed=4)
    with pytest.raises(HerdError, match=r"^--set sed=4: sed: there is no such key; did you mean seed"):
        load_yaml(Book, None, ["sed=4"])
    with pytest.raises(HerdError, match=r"^the setting layers must be given: --set layers="):
        load_yaml(Shape, None)
    with pytest.raises(HerdError, match=r"^the setting shape\.layers must be given: --set shape\.layers="):
        load_yaml(Shelf, None)


class Switch(Config):
    mode: Literal["on", "off", "truest", "1e5x"] = "on"
    awake: bool = False
    rate: float = 0.0
    count: int = 0


def test_words_and_numbers_are_read_as_people_mean_them(tmp_path: Path) -> None:
    path = tmp_path / "switch.yaml"
    path.write_text("mode: off\nawake: true\nrate: 2e-3\ncount: 12\n")
    assert load_yaml(Switch, path) == Switch(mode="off", awake=True, rate=0.002, count=12)
    assert load_yaml(Switch, None, ["mode=off", "rate=-1.5E+2"]) == Switch(mode="off", rate=-150.0)
    assert [load_yaml(Switch, None, [f"mode={word}"]).mode for word in ("truest", "1e5x")] == ["truest", "1e5x"]
    with pytest.raises(HerdError, match="awake"):
        load_yaml(Switch, None, ["awake=maybe"])
