"""MathML to TeX, held to formulas whose TeX is known."""

import pytest
from selectolax.lexbor import LexborHTMLParser

from herd.corpus.mathml import tex_of_mathml


def tex(inner: str) -> str:
    node = LexborHTMLParser(f"<math>{inner}</math>").css_first("math")
    assert node is not None
    return tex_of_mathml(node)


@pytest.mark.parametrize(
    ("mathml", "expected"),
    [
        ("<mfrac><mn>1</mn><mn>2</mn></mfrac>", r"\frac{1}{2}"),
        ("<mfrac linethickness='0'><mi>n</mi><mi>k</mi></mfrac>", r"\binom{n}{k}"),
        ("<msqrt><mi>x</mi><mo>+</mo><mn>1</mn></msqrt>", r"\sqrt{x+1}"),
        ("<mroot><mi>x</mi><mn>3</mn></mroot>", r"\sqrt[3]{x}"),
        ("<msup><mrow><mi>a</mi><mi>b</mi></mrow><mn>2</mn></msup>", "{ab}^2"),
        ("<msubsup><mi>x</mi><mi>i</mi><mn>10</mn></msubsup>", "x_i^{10}"),
        ("<munderover><mo>∑</mo><mrow><mi>k</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover>", r"\sum_{k=1}^n"),
        ("<mover><mi>x</mi><mo>^</mo></mover>", r"\hat{x}"),
        ("<mover><mi>v</mi><mo>→</mo></mover>", r"\vec{v}"),
        ("<mi>sin</mi><mi>θ</mi>", r"\sin \theta"),
        ("<mi>α</mi><mo>≤</mo><mi>β</mi><mo>−</mo><mn>1</mn>", r"\alpha \le \beta -1"),
        ("<mi>f</mi><mo>\u2061</mo><mfenced><mi>x</mi><mi>y</mi></mfenced>", "f(x, y)"),
        (
            "<mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>0</mn></mtd></mtr></mtable>",
            r"\begin{matrix} 1 & 0 \end{matrix}",
        ),
        ("<mtext>if </mtext><mi>x</mi>", r"\text{if}x"),
    ],
)
def test_structures(mathml: str, expected: str) -> None:
    assert tex(mathml) == expected


def test_order_of_a_fraction_matters() -> None:
    assert tex("<mfrac><mn>2</mn><mn>1</mn></mfrac>") != tex("<mfrac><mn>1</mn><mn>2</mn></mfrac>")
