"""Domains of texts whose kind is plain to a reader."""

import inspect
import json.encoder

import pytest

from herd.corpus.domains import DomainConfig, classify, code_density, math_density
from herd.corpus.language import Language

ENGLISH, GERMAN, MAYBE = Language("en", 0.99), Language("de", 0.97), Language("nl", 0.6)
PROSE = "The town lies on a hill above the river, and most of the people who live there work in the harbour below. " * 3
MATH = (
    "Theorem. Let A be a symmetric matrix with eigenvalues λ and let p be its characteristic polynomial. Then the "
    "determinant of A is the product of the eigenvalues, and $\\det(A - \\lambda I) = 0$ for each of them. Proof: by "
    "induction on the dimension of the space."
)
SOURCE = inspect.getsource(json.encoder)


@pytest.mark.parametrize(
    ("text", "kind", "language", "domain"),
    [
        (PROSE, "html", ENGLISH, "general"),
        (MATH, "html", ENGLISH, "math"),
        (MATH, "html", GERMAN, "multilingual"),
        (PROSE, "html", MAYBE, "general"),
        (SOURCE, "code", None, "code"),
        (SOURCE.replace('"""', ""), "html", ENGLISH, "general"),
        ("\n".join(f"x{n} = compute({n});" for n in range(40)), "html", ENGLISH, "code"),
    ],
)
def test_domains(text: str, kind: str, language: Language | None, domain: str) -> None:
    assert classify(text, kind, language, DomainConfig()) == domain


def test_densities_order_the_kinds() -> None:
    assert math_density(MATH) > 3 * math_density(PROSE)
    assert code_density(SOURCE) > 3 * code_density(PROSE)


def test_greek_tables_without_mathematics_are_not_math() -> None:
    assert math_density("λ μ Ω ∞ ± " * 50 + PROSE) < DomainConfig().math_share
