"""Which of the mix's four domains a document belongs to: general, math, code or multilingual.

The paper separates math-relevant and code pages from the rest and mixes the four in fixed shares (sections 3.1.1 and
3.1.2).  Code is what came as source code or reads like it line by line; multilingual is prose whose language is surely
not English; math is told by the density of mathematical vocabulary and of formulas.
"""

import re
from typing import Literal

from herd.corpus.language import UNDETERMINED, Language
from herd.foundation.config import Config

Domain = Literal["general", "math", "code", "multilingual"]
DOMAINS: tuple[Domain, ...] = ("general", "math", "code", "multilingual")


class DomainConfig(Config):
    """Densities are shares of words (``math_share``) and of lines (``code_share``) at which a document changes domain."""

    math_share: float = 0.03
    code_share: float = 0.7
    minimum_words: int = 20
    foreign_confidence: float = 0.8
    sample_characters: int = 60_000


_MATH_WORDS = frozenset(
    [
        "abelian",
        "algebra",
        "algebraic",
        "antisymmetric",
        "arccos",
        "arcsin",
        "arctan",
        "arithmetic",
        "asymptotic",
        "axiom",
        "bernoulli",
        "bijection",
        "binomial",
        "cauchy",
        "chi2",
        "cholesky",
        "coefficient",
        "coefficients",
        "combinatorial",
        "commutative",
        "complement",
        "conjecture",
        "conjugate",
        "convex",
        "convolution",
        "coprime",
        "corollary",
        "cosine",
        "covariance",
        "curl",
        "derivative",
        "derivatives",
        "determinant",
        "diagonal",
        "differentiable",
        "differential",
        "dirichlet",
        "divergence",
        "divisor",
        "eigenvalue",
        "eigenvalues",
        "eigenvector",
        "eigenvectors",
        "ellipse",
        "entropy",
        "equation",
        "equations",
        "euclidean",
        "euler",
        "exponent",
        "exponential",
        "exponentiation",
        "factorial",
        "fourier",
        "fraction",
        "fractions",
        "gamma",
        "gaussian",
        "gcd",
        "geometric",
        "geometry",
        "gradient",
        "hermitian",
        "hyperbola",
        "hyperbolic",
        "hypotenuse",
        "hypothesis",
        "inequality",
        "infinity",
        "integer",
        "integers",
        "integral",
        "integrals",
        "integrand",
        "interpolation",
        "invertible",
        "isomorphic",
        "isomorphism",
        "jacobian",
        "kurtosis",
        "laplace",
        "lcm",
        "lemma",
        "likelihood",
        "linear",
        "logarithm",
        "logarithmic",
        "mantissa",
        "math",
        "mathematical",
        "mathematics",
        "matrices",
        "matrix",
        "maximum",
        "median",
        "minimum",
        "modulo",
        "modulus",
        "monomial",
        "monotonic",
        "multinomial",
        "multiplication",
        "multiplicative",
        "norm",
        "numerator",
        "denominator",
        "numerical",
        "orthogonal",
        "orthonormal",
        "parabola",
        "parabolic",
        "parity",
        "perimeter",
        "permutation",
        "permutations",
        "perpendicular",
        "poisson",
        "polygon",
        "polynomial",
        "polynomials",
        "posterior",
        "prime",
        "primes",
        "probability",
        "proof",
        "proposition",
        "quadratic",
        "quantile",
        "quartile",
        "quotient",
        "radian",
        "radians",
        "radius",
        "rational",
        "real",
        "reciprocal",
        "rectangle",
        "regression",
        "remainder",
        "scalar",
        "sine",
        "cos",
        "sin",
        "tan",
        "sinh",
        "cosh",
        "tanh",
        "sqrt",
        "skewness",
        "slope",
        "sphere",
        "squared",
        "stochastic",
        "subspace",
        "subtraction",
        "sum",
        "summation",
        "symmetric",
        "tangent",
        "taylor",
        "theorem",
        "theta",
        "topology",
        "transpose",
        "triangle",
        "trigonometric",
        "unitary",
        "variance",
        "vector",
        "vectors",
        "velocity",
    ]
)
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_FORMULA = re.compile(
    r"[∑∏∫√∂∇≤≥≠≈≡∈∉⊂⊆∪∩∀∃∞±×÷πθλσμΔΩαβγ]|\\(?:frac|sum|int|sqrt|alpha|beta|pi|theta|lambda|sigma|cdot|times|leq?|geq?|in|left|mathbb|mathrm|text)\b"
    r"|\$[^$\n]{1,200}\$|\b[a-z]\s?\^\s?[\d{(n]|\b[a-zA-Z]\s?=\s?[a-zA-Z\d]\s?[-+*/^]\s?[a-zA-Z\d]"
)
_CODE_LINE = re.compile(
    r"^\s*(?:def |class |import |from \w[\w.]* import |return\b|if .*:$|elif .*:$|else:$|for .*:$|while .*:$|try:$|except\b.*:$|with .*:$|@\w"
    r"|#include|public |private |static |const |let |var |fn |func |package |use |\}|//|/\*|\*/)|[;{}]\s*$|^\s*[\w.\[\]]+ = .|^\s*[\w.]+\(.*\)\s*$"
)


def math_density(text: str) -> float:
    """Mathematical words and formulas as a share of all words of ``text``."""
    words = _WORD.findall(text)
    hits = sum(word.lower() in _MATH_WORDS for word in words)
    return (hits + len(_FORMULA.findall(text))) / max(len(words), 1)


def code_density(text: str) -> float:
    """The share of the lines that are written that reads like statements of a programming language."""
    lines = [line for line in text.splitlines() if line.strip()]
    return sum(_CODE_LINE.search(line) is not None for line in lines) / max(len(lines), 1)


def classify(text: str, kind: str, language: Language | None, config: DomainConfig = DomainConfig()) -> Domain:  # noqa: B008
    """The domain of a document; ``kind`` is the page's ("code" is believed), ``language`` is None for code."""
    if kind == "code" or language is None:
        return "code"
    if language.code not in ("en", UNDETERMINED) and language.confidence >= config.foreign_confidence:
        return "multilingual"
    sample = text[: config.sample_characters]
    if len(_WORD.findall(sample)) >= config.minimum_words and math_density(sample) >= config.math_share:
        return "math"
    return "code" if code_density(sample) >= config.code_share else "general"
