"""Extraction against real pages with known text, and against every way in which the web writes formulas and code."""

import gzip
import importlib.util
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from herd.corpus.extract import extract, extract_html, extract_page
from herd.corpus.pages import Page

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
BENCH = Path(__file__).parents[2] / "bench" / "corpus" / "extraction.py"
PROSE = (
    "<p>The method of least squares approximates the solution of an overdetermined system, and it is described here "
    "in some detail, with examples, for the reader who meets it for the first time.</p>"
)


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the test data {name} are not on this machine")
    return path


def page_of(middle: str) -> str:
    return f"<html><head><title>Notes</title></head><body><article>{PROSE}{middle}{PROSE}</article></body></html>"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_extraction", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_articles_as_well_as_the_best_published_extractors(bench: ModuleType) -> None:
    scores, _ = bench.measure(shared("html-articles"))
    precision, recall, f1 = bench.summary(scores)
    assert precision > 0.96
    assert recall > 0.97
    assert f1 > 0.97, "trafilatura reaches .960 on these pages, resiliparse .927"


def test_the_measure_knows_good_from_bad(bench: ModuleType) -> None:
    assert bench.compare("a b c d e", "a b c d e") == (1.0, 1.0)
    assert bench.compare("a b c d e", "a b c d") == (1.0, 0.5)
    assert bench.compare("a b c d", "a b c d e") == (0.5, 1.0)
    assert bench.compare("a b c d", "") == (0.0, 0.0)


def test_without_choosing_the_main_text_the_articles_score_far_lower(bench: ModuleType) -> None:
    scores = []
    for key, html, truth in bench.pages(shared("html-articles")):
        body = LexborHTMLParser(html).body
        scores.append(bench.Score(key, *bench.compare(truth, body.text(separator=" ") if body else "")))
    assert bench.summary(scores)[2] < 0.8


def encodings() -> list[dict[str, str]]:
    path = SHARED / "html-encodings.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("case", encodings(), ids=lambda case: case["id"])
def test_every_way_of_writing_formulas_and_code(case: dict[str, str]) -> None:
    text = extract_html(case["html"]).text
    wanted = [case["code"]] if "code" in case else case["accept_any"]
    # One case writes the same formula twice on purpose.
    assert max(map(text.count, wanted)) == (2 if case["id"] == "math/math in table cell" else 1)
    assert "overdetermined" in text
    assert "stability of the procedure" in text
    assert "Copyright" not in text
    assert "Home" not in text


FORMULA = r"\frac{a_1}{b^2}"


@pytest.mark.parametrize(
    "markup",
    [
        rf"\({FORMULA}\)",
        rf"$${FORMULA}$$",
        f'<script type="math/tex">{FORMULA}</script>',
        f'<math><mi>x</mi><annotation encoding="application/x-tex">{FORMULA}</annotation></math>',
        f'<math alttext="{FORMULA}"><mi>x</mi></math>',
        "<math><mfrac><msub><mi>a</mi><mn>1</mn></msub><msup><mi>b</mi><mn>2</mn></msup></mfrac></math>",
        f'<span class="mwe-math-element"><img class="mwe-math-fallback-image-inline" alt="{FORMULA}" src="x"></span>',
        '<img src="https://latex.codecogs.com/svg.latex?%5Cfrac%7Ba_1%7D%7Bb%5E2%7D">',
    ],
)
def test_formula_comes_out_once_as_tex(markup: str) -> None:
    text = extract_html(page_of(f"<p>We write {markup} for the ratio of the two.</p>")).text
    assert text.count(FORMULA) == 1
    assert re.search(r"We write \S.*\S for the ratio of the two\.", text)


def test_katex_leaves_out_what_it_only_draws() -> None:
    katex = (
        f'<span class="katex"><span class="katex-mathml"><math><semantics><mi>x</mi><annotation '
        f'encoding="application/x-tex">{FORMULA}</annotation></semantics></math></span>'
        '<span class="katex-html" aria-hidden="true"><span>a</span><span>1b2</span></span></span>'
    )
    text = extract_html(page_of(f"<p>We write {katex} here.</p>")).text
    assert f"We write ${FORMULA}$ here." in text


def test_pictures_without_formulas_leave_nothing() -> None:
    assert "sunset" not in extract_html(page_of('<p>A photo <img src="/a.jpg" alt="sunset at sea"> of it.</p>')).text


def test_the_same_formulas_from_tex_and_from_mathml() -> None:
    """Two pages of one text, one in TeX and one in MathML, by the authors of MathJax."""
    folder = shared("html-math") / "mathjax-demos" / "page"
    from_mathml = extract_html((folder / "mml-chtml.html").read_text()).text.replace(" ", "")
    for formula in (r"x=\frac{-b\pm\sqrt{b^2-4ac}}{2a}", r"V_1\timesV_2", r"\binom{n}{k}", r"\dot{x}", r"\sum_{k=1}^n"):
        assert formula in from_mathml
    from_tex = extract_html((folder / "tex-chtml.html").read_text()).text
    assert r"$$x = {-b \pm \sqrt{b^2-4ac} \over 2a}.$$" in from_tex


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(
            st.characters(codec="utf-8", exclude_characters="\r\n\0\x0c\xa0", exclude_categories=["Cs", "Cc"]),
            max_size=30,
        ),
        min_size=1,
        max_size=8,
    )
)
def test_code_keeps_every_character(lines: list[str]) -> None:
    code = "\n".join(["def f(x):", *("    " + line for line in lines), "    return x"])
    escaped = code.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert code in extract_html(page_of(f"<pre><code>{escaped}</code></pre>")).text


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("<>/=\"' abpdivtrmlnohk&;!-\n\x00é"), max_size=200))
def test_no_markup_is_too_broken(html: str) -> None:
    assert isinstance(extract_html(html).text, str)
    assert isinstance(extract_html(page_of(html)).text, str)


def test_surroundings_go_and_structure_stays_without_markers() -> None:
    html = page_of(
        "<h2>Usage</h2><ul><li>first thing</li><li>second thing</li></ul><table><tr><th>Name</th><th>Size</th></tr>"
        "<tr><td>a</td><td>12</td></tr></table>"
        '<div class="related-posts"><p>You will not believe these ten tricks, number seven is amazing.</p></div>'
        '<div id="comments"><p>First! I completely agree, with all of it, and said so before.</p></div>'
    )
    text = extract_html(html.replace("<body>", "<body><nav><ul><li><a href='/'>Start</a></li></ul></nav>")).text
    assert "Usage\n\nfirst thing\nsecond thing\n\nName\tSize\na\t12\n\n" in text
    for gone in ("tricks", "First!", "Start", "Notes"):
        assert gone not in text


def test_a_name_that_holds_most_of_the_text_is_no_reason_to_drop_it() -> None:
    html = f'<html><body><div class="widget sidebar-layout">{PROSE * 4}</div></body></html>'
    assert extract_html(html).text.count("overdetermined") == 4


MANUAL = f"""<title>Tables and searches — Notes</title><body><div role=main><section id="tables-and-searches">
<h1>Tables and searches</h1>{PROSE}
<section id="search"><h2><span id="s1"></span>Search</h2><p>Follow the word through all pages.</p></section>
<section id="tables"><h2>Tables</h2><p>Comments begin with a hash sign, and they end with the line, as everywhere.</p>
<table><tr><td><p>Tag</p></td><td><p>a, b</p></td><td><p>one of <code>x</code></p></td></tr></table></section>
<section id="more"><h2>More</h2>{PROSE * 3}</section></section></div>
<section id="related"><h2>Related</h2><ul><li>A story about a tree</ul></section></body>"""


def test_a_manual_comes_out_with_all_its_sections() -> None:
    """Sections are named by their headings, which may be words by which other pages name what surrounds a text."""
    text = extract_html(MANUAL).text
    assert "Search\n\nFollow the word through all pages.\n\nTables\n\nComments begin with a hash sign" in text
    assert "Tag\ta, b\tone of x" in text
    assert text.count("overdetermined") == 4
    assert "tree" not in text


@pytest.mark.parametrize("heading", ["Print settings", "Comments in code", "Latest changes"])
def test_headings_named_by_their_own_words_stay(heading: str) -> None:
    slug = heading.lower().replace(" ", "-")
    assert f"{heading}\n\nThe" in extract_html(page_of(f'<h3 id="{slug}">{heading}</h3>{PROSE}')).text


def test_a_heading_that_is_one_word_of_a_long_title_stays() -> None:
    html = page_of(f"<h2>Opening hours</h2>{PROSE}").replace("Notes", "Prices and opening hours of the old town baths")
    assert "Opening hours\n\nThe" in extract_html(html).text


@pytest.mark.parametrize(
    "html",
    [
        "<div class=nav>" * 250 + PROSE * 40_000,
        "<div>" * 250 + "<i class=nav><div itemprop=text><p>ab</div></i>" * 40_000,
        "<div class=post>" * 250 + "<div class=content>ab</div>" * 40_000,
        "<section id=a>" * 120 + "<section id=search><h2>Search</h2>" * 120 + PROSE * 10_000,
    ],
    ids=["unwanted in unwanted", "posts in the deep", "plain posts in posts", "sections in sections"],
)
def test_depth_does_not_multiply_the_work(html: str) -> None:
    before = time.process_time()
    assert extract_html(html).refused is None
    assert time.process_time() - before < 6, "processor seconds, with room"


def test_kinds_of_pages() -> None:
    assert extract_page(Page("readme:x", "readme", "text", "# Title\n\nSome *words*.")).text == "Title\n\nSome words."
    assert extract_page(Page("source:x.py", "x", "code", "#!x\ndef f(): pass\n")).text == "#!x\ndef f(): pass\n"
    assert extract_page(Page("u", "jsonl", "text", "a *b* c", title="T", date="2020-01-02")).title == "T"


def test_the_whole_of_a_page_by_one_call() -> None:
    html = (
        "<html lang=en-GB><head><title>On rivers - A site</title><meta name=date content=2021-05-06>"
        "<meta name=author content='Jane Doe'><base href='/b/'></head><body><h1>On rivers</h1>"
        f"{PROSE * 2}<h2>Usage</h2><ul><li>one thing</li><li>- another</li></ul><pre>x = ```</pre>"
        "<table><tr><th>Name</th><th>Size</th></tr><tr><td>a|b</td><td>12</td></tr></table><p># no heading</p>"
        f"{PROSE}<p><a href='c?d#e'>More</a> <a href='mailto:x@y.z'>mail</a> <a href='c?d'>again</a></p></body></html>"
    )
    found = extract(html.encode(), "https://example.org/a")
    assert (found.title, found.author, found.date, found.language) == ("On rivers", "Jane Doe", "2021-05-06", "en")
    assert found.links == ("https://example.org/b/c?d",)
    assert found.text == extract(html).text == extract_html(html).text
    assert found.markdown.startswith("# On rivers\n\nThe method")
    table = "| Name | Size |\n| --- | --- |\n| a\\|b | 12 |"
    lists = "## Usage\n\n- one thing\n- \\- another\n\n````\nx = ```\n````"
    assert f"{lists}\n\n{table}\n\n\\# no heading" in found.markdown
    assert extract(b"\x89PNG\r\n\x1a\n\0\0").refused == "binary data, no HTML"


def test_a_file_without_end_is_refused() -> None:
    """No more of it is read than a page may have."""
    done = subprocess.run(
        [sys.executable, "-m", "herd", "extract", "/dev/zero"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "longer than 20,000,000 characters" in done.stderr


def test_speed_is_above_a_low_floor(bench: ModuleType) -> None:
    folder = shared("html-articles")
    big = max((folder / "html").iterdir(), key=lambda path: path.stat().st_size)
    assert len(gzip.decompress(big.read_bytes())) > 500_000
    _, rate = bench.measure(folder)
    assert rate > 40, "pages of 177 KB a second of processor time; a quiet core does some 300"
