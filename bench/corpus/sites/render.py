"""Pages of kinds that the articles' benchmark lacks: forums, documentation, listings, tables, recipes, eight languages.

    python bench/corpus/sites/render.py OUT --work WORK      # installs generators below WORK; needs node and npm
    python bench/corpus/extraction_kinds.py OUT --part report --peers PEERS/bin/python   # scores

The texts are this project's own (``texts/``), the pages are made by site generators, forums and a wiki from the
package indexes.  OUT gets ``html/KEY.html.gz`` and ``ground-truth.json`` with the true text, which is the source of
the page's content, and with kind, language, generator and part of every page.  The parts ``look`` and ``report``
share neither a text nor a generator.
"""

import argparse
import gzip
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import forums
import node_sites
import python_sites
from selectolax.lexbor import LexborHTMLParser
from texts import Text, read_texts
from tools import Tools, install

from herd.foundation.errors import HerdError
from herd.foundation.files import write_json

_MANUAL = ("documentation", "listing", "table")
_BLOG = ("article", "listing", "recipe", "table")
_WIKI = ("article", "listing", "recipe", "table")
_FORUM = ("forum",)
_SIGNS = re.compile(r"\W+")


@dataclass(frozen=True)
class Generator:
    """One way of making pages; it gets the texts of its part and kinds."""

    name: str
    part: str
    kinds: tuple[str, ...]
    make: Callable[[Tools, Path, list[Text]], dict[str, Path]]


GENERATORS = (
    Generator("mkdocs-readthedocs", "look", _MANUAL, partial(python_sites.mkdocs, theme="readthedocs")),
    Generator("sphinx-alabaster", "look", _MANUAL, partial(python_sites.sphinx, theme="alabaster")),
    Generator("pelican", "look", _BLOG, python_sites.pelican),
    Generator("hexo-landscape", "look", _BLOG, partial(node_sites.hexo, theme="landscape")),
    Generator("tiddlywiki", "look", _WIKI, node_sites.tiddlywiki),
    Generator("machina", "look", _FORUM, forums.machina),
    Generator("spirit", "look", _FORUM, forums.spirit),
    Generator("mkdocs-material", "report", _MANUAL, partial(python_sites.mkdocs, theme="material")),
    Generator("sphinx-furo", "report", _MANUAL, partial(python_sites.sphinx, theme="furo")),
    Generator("sphinx-rtd", "report", _MANUAL, partial(python_sites.sphinx, theme="sphinx_rtd_theme")),
    Generator("sphinx-pydata", "report", _MANUAL, partial(python_sites.sphinx, theme="pydata_sphinx_theme")),
    Generator("vitepress", "report", _MANUAL, node_sites.vitepress),
    Generator("honkit", "report", _MANUAL, node_sites.honkit),
    Generator("nbconvert", "report", ("documentation", "table"), python_sites.notebooks),
    Generator("pdoc", "report", ("documentation",), python_sites.pdoc),
    Generator("nikola", "report", _BLOG, python_sites.nikola),
    Generator("hexo-next", "report", _BLOG, partial(node_sites.hexo, theme="next")),
    Generator("hexo-butterfly", "report", _BLOG, partial(node_sites.hexo, theme="butterfly")),
    Generator("django-wiki", "report", _WIKI, forums.wiki),
    Generator("nodebb-persona", "report", _FORUM, partial(forums.nodebb, theme="persona")),
    Generator("nodebb-harmony", "report", _FORUM, partial(forums.nodebb, theme="harmony")),
)


def render(generator: Generator, texts: list[Text], tools: Tools, work: Path) -> dict[str, str]:
    """The HTML of every page of one generator, by the text's key; a page that lacks its text is an error."""
    site = work / "sites" / generator.name
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True)
    pages = generator.make(tools, site, texts)
    found = {key: path.read_text(encoding="utf-8") for key, path in pages.items()}
    for text in texts:
        if held(text.truth, found[text.key]) < 0.97:
            raise HerdError(f"the page of {text.key} by {generator.name} does not hold its text")
    return found


def held(truth: str, html: str) -> float:
    """The share of ``truth`` that stands on a page at all, by runs of four words; only letters and digits count."""
    body = LexborHTMLParser(html).body
    said = _SIGNS.sub("", body.text() if body is not None else "")
    lines = [line.split() for line in truth.splitlines()]
    runs = [_SIGNS.sub("", "".join(line[at : at + 4])) for line in lines for at in range(0, len(line), 4)]
    return sum(run in said for run in runs) / len(runs)


def main() -> None:
    """Installs what is missing, renders everything and writes the set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="where generators are installed and sites are built")
    arguments = parser.parse_args()
    tools, texts = install(arguments.work), read_texts(Path(__file__).parent / "texts")
    folder = arguments.out / "html"
    folder.mkdir(parents=True, exist_ok=True)
    truth: dict[str, dict[str, str]] = {}
    for generator in GENERATORS:
        own = [text for text in texts if text.part == generator.part and text.kind in generator.kinds]
        for key, html in render(generator, own, tools, arguments.work).items():
            text = next(text for text in own if text.key == key)
            name = f"{generator.name}.{key}"
            (folder / f"{name}.html.gz").write_bytes(gzip.compress(html.encode(), mtime=0))
            truth[name] = {
                "articleBody": text.truth, "title": text.title, "kind": text.kind, "language": text.language,
                "text": key, "generator": generator.name, "part": text.part,
            }  # fmt: skip
        print(f"{generator.name}: {len(own)} pages")
    write_json(arguments.out / "ground-truth.json", truth)
    print(json.dumps({part: sum(row["part"] == part for row in truth.values()) for part in ("look", "report")}))


if __name__ == "__main__":
    main()
