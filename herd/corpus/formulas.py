"""Finds the formula that an element stands for, in any of the ways in which the web writes one, and returns its TeX.

MathJax scripts and containers, KaTeX, MathML with or without annotation, LaTeXML's ``alttext``, images whose ``alt`` or
address is TeX, and ``data-`` attributes.  Formulas that already stand in the text between ``\\( \\)``, ``$$`` or
backquotes need nothing.  The paper keeps mathematics and its ``alt`` texts for the same reason (section 3.1.1).
"""

import re
from urllib.parse import unquote_plus

from selectolax.lexbor import LexborHTMLParser, LexborNode

from herd.corpus.mathml import tex_of_mathml

_TEX_ATTRIBUTES = ("data-tex", "data-latex", "data-math", "data-formula", "data-expr", "data-equation")
_IMAGE_OF_TEX = re.compile(
    r"latex|codecogs|mwe-math|/math|mathjax|mathtex|mimetex|/tex\b|equation|formula", re.IGNORECASE
)
_TEX_SIGN = re.compile(r"\\[A-Za-z]+|[A-Za-z0-9)}]\s*[\^_]\s*[{A-Za-z0-9]|\$[^$]+\$")
_SOURCE_IN_ADDRESS = re.compile(r"(?:codecogs\.com|chart\.googleapis\.com|latex\.php|mathtex\.cgi|mimetex\.cgi)")
_SIZE_COMMAND = re.compile(r"^\\(?:inline|dpi\{\d+\}|bg_\w+|fn_\w+|large|small|tiny|huge)\s*")
_STANDS_ALONE = re.compile(r"\\begin\{(?:equation|align|gather|multline|eqnarray|displaymath|flalign)\*?\}")
_DISPLAYSTYLE = re.compile(r"^\{\\(?:displaystyle|textstyle)\s?(.*)\}$", re.DOTALL)


def formula(node: LexborNode, tag: str, attributes: dict[str, str | None]) -> str | None:
    """The formula that ``node`` is, delimited by ``$`` or ``$$``; "" to leave it out; None where it is no formula."""
    if tag == "script":
        return _script(node, attributes.get("type") or "")
    if tag == "math":
        return _math(node, attributes)
    if tag == "mjx-container":
        return _container(node, attributes)
    if tag == "img":
        return _image(attributes)
    label = attributes.get("class") or ""
    if "katex" in label or "MathJax" in label or "mwe-math" in label:
        return _rendered(node, label)
    for name in _TEX_ATTRIBUTES:
        value = attributes.get(name)
        if value and (name in ("data-tex", "data-latex") or _TEX_SIGN.search(value)):
            return _delimited(value, display=tag in ("div", "p"))
    return None


def _delimited(tex: str, *, display: bool) -> str:
    tex = tex.strip()
    wrapped = _DISPLAYSTYLE.match(tex)
    tex = wrapped[1].strip() if wrapped else tex
    if not tex:
        return ""
    if tex.startswith(("$", r"\(", r"\[")) or _STANDS_ALONE.match(tex):
        return tex
    return f"$${tex}$$" if display else f"${tex}$"


def _script(node: LexborNode, kind: str) -> str | None:
    if not kind.startswith("math/"):
        return None
    text = node.text() or ""
    if "mml" in kind:
        inner = LexborHTMLParser(text).css_first("math")
        return _math(inner, inner.attributes) if inner is not None else ""
    return _delimited(text, display="display" in kind)


def _math(node: LexborNode, attributes: dict[str, str | None]) -> str:
    display = attributes.get("display") == "block" or attributes.get("mode") == "display"
    note = node.css_first('annotation[encoding*="tex" i]')
    tex = note.text() if note is not None else attributes.get("alttext")
    return _delimited(tex or tex_of_mathml(node), display=display)


def _container(node: LexborNode, attributes: dict[str, str | None]) -> str:
    inner = node.css_first("math")
    if inner is None:
        return ""
    return _delimited(_math(inner, inner.attributes).strip("$"), display=attributes.get("display") == "true")


def _rendered(node: LexborNode, label: str) -> str | None:
    """What KaTeX, MathJax 2 and MediaWiki made of a formula; the parts that only draw it are left out."""
    names = label.split()
    if "katex-html" in names or "MathJax_Preview" in names or "MJX_Assistive_MathML" in names:
        return ""
    if "katex-display" in names:
        inner = node.css_first("math")
        return _delimited(_math(inner, inner.attributes).strip("$"), display=True) if inner is not None else None
    if "katex" in names or "katex-mathml" in names or "mwe-math-element" in names:
        inner = node.css_first("math")
        if inner is not None:
            return _math(inner, inner.attributes)
        image = node.css_first("img")
        return _image(image.attributes) if image is not None else None
    drawn = any(name in ("MathJax", "MathJax_Display", "MathJax_SVG", "MathJax_CHTML") for name in names)
    if not drawn:
        return None
    # The script that holds the formula usually follows what was drawn; it may also lie inside it.
    inner = node.css_first('script[type^="math/"]')
    if inner is not None:
        return _script(inner, inner.attributes.get("type") or "")
    inner = node.css_first("math")
    return _math(inner, inner.attributes) if inner is not None and _script_follows(node) is False else ""


def _script_follows(node: LexborNode) -> bool:
    after = node.next
    while after is not None and after.tag == "-text" and not (after.text_content or "").strip():
        after = after.next
    return after is not None and after.tag == "script" and (after.attributes.get("type") or "").startswith("math/")


def _image(attributes: dict[str, str | None]) -> str | None:
    """The formula of an image that shows one: from its ``alt`` text, or from an address that holds the TeX."""
    alt, address = (attributes.get("alt") or "").strip(), attributes.get("src") or ""
    label = f"{attributes.get('class') or ''} {address}"
    if alt and _IMAGE_OF_TEX.search(label) and (_TEX_SIGN.search(alt) or len(alt) <= 3):
        return _delimited(alt, display=False)
    if _SOURCE_IN_ADDRESS.search(address) and "?" in address:
        source = unquote_plus(address.partition("?")[2])
        source = source.partition("latex=")[2].partition("&")[0] or source.partition("chl=")[2] or source
        return _delimited(_SIZE_COMMAND.sub("", source), display=False)
    return None
