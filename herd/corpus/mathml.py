"""Turns presentation MathML into TeX, for pages whose formulas carry no TeX of their own.

    tex_of_mathml(node)   # <mfrac><mi>a</mi><mn>2</mn></mfrac> becomes \\frac{a}{2}

The result is meant to be read by people and models: common symbols become commands, everything else stays Unicode.
"""

import re
from collections.abc import Callable

from selectolax.lexbor import LexborNode

_SYMBOLS = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ϵ": "epsilon", "ζ": "zeta", "η": "eta",
    "θ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho",
    "σ": "sigma", "τ": "tau", "υ": "upsilon", "φ": "phi", "ϕ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega",
    "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi",
    "Ψ": "Psi", "Ω": "Omega", "∞": "infty", "∂": "partial", "∇": "nabla", "∑": "sum", "∏": "prod", "∫": "int",
    "∮": "oint", "∈": "in", "∉": "notin", "⊂": "subset", "⊆": "subseteq", "∪": "cup", "∩": "cap", "∅": "emptyset",
    "∀": "forall", "∃": "exists", "¬": "neg", "∧": "wedge", "∨": "vee", "≤": "le", "≥": "ge", "≠": "ne", "≈": "approx",
    "≡": "equiv", "∼": "sim", "∝": "propto", "→": "to", "←": "leftarrow", "↔": "leftrightarrow", "⇒": "Rightarrow",
    "⇔": "Leftrightarrow", "↦": "mapsto", "×": "times", "·": "cdot", "⋅": "cdot", "÷": "div", "±": "pm", "∓": "mp",
    "∘": "circ", "⊕": "oplus", "⊗": "otimes", "…": "ldots", "⋯": "cdots", "⋮": "vdots", "ℝ": "mathbb{R}",
    "ℕ": "mathbb{N}", "ℤ": "mathbb{Z}", "ℚ": "mathbb{Q}", "ℂ": "mathbb{C}", "ℏ": "hbar", "ℓ": "ell", "′": "prime",
    "⟨": "langle", "⟩": "rangle", "‖": "|", "{": "{", "}": "}", "%": "%", "#": "#", "&": "&",
}  # fmt: skip
_NO_LINE = re.compile(r"^\s*0[\s.0]*(?:px|em|pt|ex)?\s*$")
_UNSEEN = {"\u2061", "\u2062", "\u2063", "\u2064", "\u200b", "\u2009", "\u200a"}
_ACCENTS = {
    "^": "hat", "ˆ": "hat", "~": "tilde", "˜": "tilde", "¯": "bar", "‾": "overline", "→": "vec", "⃗": "vec",
    "˙": "dot", "¨": "ddot", "⏞": "overbrace", "_": "underline", "⏟": "underbrace", "―": "overline",
}  # fmt: skip
_LARGE = {r"\sum", r"\prod", r"\int", r"\oint", r"\lim", r"\max", r"\min", r"\sup", r"\inf", r"\bigcup", r"\bigcap"}
_FUNCTIONS = {
    "sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan", "exp", "log", "ln",
    "lim", "max", "min", "sup", "inf", "det", "dim", "ker", "gcd", "deg", "arg", "Pr",
}  # fmt: skip


def tex_of_mathml(node: LexborNode) -> str:
    """The TeX of a MathML element and everything below it, without delimiters."""
    return " ".join(_tex(node).split())


def children(node: LexborNode) -> list[LexborNode]:
    """The child elements of ``node``, without text and comments between them."""
    found, child = [], node.first_child
    while child is not None:
        if child.is_element_node:
            found.append(child)
        child = child.next
    return found


def _tex(node: LexborNode) -> str:
    tag = (node.tag or "").rpartition(":")[2]
    if tag in ("mi", "mn", "mo", "ms"):
        return _token(node, tag)
    if tag in ("mtext", "annotation", "annotation-xml", "mspace"):
        text = node.text().strip().replace("\xa0", " ") if tag == "mtext" else ""
        return rf"\text{{{text}}}" if text else " "
    parts = [_tex(child) for child in children(node)]
    return _STRUCTURES.get(tag, _row)(parts, node)


def _token(node: LexborNode, tag: str) -> str:
    text = "".join(char for char in node.text().strip() if char not in _UNSEEN)
    if tag in ("mi", "mo") and text in _FUNCTIONS:
        return rf"\{text} "
    if tag == "mi" and len(text) > 1 and text.isalpha() and text not in _SYMBOLS:
        return rf"\mathrm{{{text}}}"
    return "".join(_symbol(char) for char in text)


def _symbol(char: str) -> str:
    name = _SYMBOLS.get(char)
    if name is None:
        return "-" if char == "−" else char
    return rf"\{name}" if not name[-1].isalpha() else rf"\{name} "


def _group(part: str) -> str:
    return f"{{{part.strip()}}}"


def _script(base: str, sign: str, script: str) -> str:
    part = script.strip()
    return base.rstrip() + sign + (part if len(part) == 1 else _group(part))


def _base(part: str) -> str:
    """A base of several signs needs braces before a script."""
    stripped = part.strip()
    single = len(stripped) <= 1 or (stripped[0] == "\\" and stripped[1:].isalpha()) or stripped.isdigit()
    return stripped if single or stripped.startswith((r"\mathrm{", r"\mathbb{", "{")) else _group(stripped)


def _row(parts: list[str], node: LexborNode) -> str:
    return "".join(parts)


def _fraction(parts: list[str], node: LexborNode) -> str:
    if _NO_LINE.match(node.attributes.get("linethickness") or ""):
        return r"\binom" + "".join(map(_group, parts))
    return r"\frac" + "".join(map(_group, parts))


def _root(parts: list[str], node: LexborNode) -> str:
    return rf"\sqrt[{parts[1].strip()}]{_group(parts[0])}" if len(parts) == 2 else r"\sqrt" + _group("".join(parts))


def _scripts(*signs: str) -> Callable[[list[str], LexborNode], str]:
    def build(parts: list[str], node: LexborNode) -> str:
        if len(parts) != len(signs) + 1:
            return "".join(parts)
        text = _base(parts[0])
        for sign, script in zip(signs, parts[1:], strict=True):
            text = _script(text, sign, script) if script.strip() else text
        return text

    return build


def _under_over(*signs: str) -> Callable[[list[str], LexborNode], str]:
    scripts = _scripts(*signs)

    def build(parts: list[str], node: LexborNode) -> str:
        if len(parts) == 2 and parts[1].strip().lstrip("\\") in {*_ACCENTS, "to"}:
            accent = _ACCENTS.get(parts[1].strip(), "vec")
            return rf"\{accent}{_group(parts[0])}"
        if parts and parts[0].strip() not in _LARGE and len(parts) == 2:
            return (r"\overset" if signs == ("^",) else r"\underset") + _group(parts[1]) + _group(parts[0])
        return scripts(parts, node)

    return build


def _fenced(parts: list[str], node: LexborNode) -> str:
    opening, closing = node.attributes.get("open", "("), node.attributes.get("close", ")")
    return f"{_symbol(opening or '.')}{', '.join(part.strip() for part in parts)}{_symbol(closing or '.')}"


def _table(parts: list[str], node: LexborNode) -> str:
    return r"\begin{matrix} " + r" \\ ".join(part.strip() for part in parts) + r" \end{matrix}"


def _table_row(parts: list[str], node: LexborNode) -> str:
    return " & ".join(part.strip() for part in parts)


def _first(parts: list[str], node: LexborNode) -> str:
    return parts[0] if parts else ""


_STRUCTURES: dict[str, Callable[[list[str], LexborNode], str]] = {
    "mfrac": _fraction, "msqrt": _root, "mroot": _root, "mfenced": _fenced, "mtable": _table, "mtr": _table_row,
    "mlabeledtr": _table_row, "semantics": _first, "msub": _scripts("_"), "msup": _scripts("^"),
    "msubsup": _scripts("_", "^"), "munder": _under_over("_"), "mover": _under_over("^"),
    "munderover": _under_over("_", "^"), "mphantom": lambda parts, node: "",
}  # fmt: skip
