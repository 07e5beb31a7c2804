"""Sites made by generators of Python: MkDocs, Sphinx, Pelican, Nikola, nbconvert and pdoc.

Each function writes a site's sources from texts, builds it, and tells which page came of which text.
"""

import json
from pathlib import Path

from texts import Text
from tools import Tools

Pages = dict[str, Path]
_SPHINX = """project = "Notes of the valley"
author = "Robin Ash"
extensions = ["myst_parser"]
html_theme = "{theme}"
"""
_PELICAN = """AUTHOR = "Robin Ash"
SITENAME = "Notes of the valley"
TIMEZONE = "UTC"
RELATIVE_URLS = True
LINKS = (("Maps of the valley", "https://maps.example/"), ("The weather tomorrow", "https://weather.example/"))
SOCIAL = (("A photo album", "https://photos.example/"), ("Letters", "https://letters.example/"))
"""


def mkdocs(tools: Tools, site: Path, texts: list[Text], theme: str) -> Pages:
    """Documentation with a menu of all pages, a table of contents and a search field."""
    docs = site / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# Notes of the valley\n\nWhat we wrote down, for those who come after us.\n")
    for text in texts:
        (docs / f"{text.key}.md").write_text(f"# {text.title}\n\n{text.body}\n")
    (site / "mkdocs.yml").write_text(
        f"site_name: Notes of the valley\nsite_url: https://notes.example/\ntheme: {theme}\ncopyright: The valley\n"
    )
    tools.run("mkdocs", "build", "-q", cwd=site)
    return {text.key: site / "site" / text.key / "index.html" for text in texts}


def sphinx(tools: Tools, site: Path, texts: list[Text], theme: str) -> Pages:
    """Documentation from Markdown by MyST, in one of Sphinx's themes."""
    (site / "conf.py").write_text(_SPHINX.format(theme=theme))
    contents = "\n".join(text.key for text in texts)
    (site / "index.md").write_text(f"# Notes of the valley\n\n```{{toctree}}\n{contents}\n```\n")
    for text in texts:
        (site / f"{text.key}.md").write_text(f"# {text.title}\n\n{text.body}\n")
    tools.run("sphinx-build", "-q", "-b", "html", ".", "built", cwd=site)
    return {text.key: site / "built" / f"{text.key}.html" for text in texts}


def pelican(tools: Tools, site: Path, texts: list[Text]) -> Pages:
    """A blog with categories, a blogroll and links to the next article."""
    (site / "content").mkdir()
    (site / "pelicanconf.py").write_text(_PELICAN)
    for text in texts:
        head = f"Title: {text.title}\nDate: 2024-05-17 10:00\nCategory: {text.kind}\nTags: valley, {text.language}\n"
        (site / "content" / f"{text.key}.md").write_text(f"{head}Slug: {text.key}\n\n{text.body}\n")
    tools.run("pelican", "-q", "-s", "pelicanconf.py", "content", cwd=site)
    return {text.key: site / "output" / f"{text.key}.html" for text in texts}


def nikola(tools: Tools, site: Path, texts: list[Text]) -> Pages:
    """A blog in Nikola's own theme, with tags, archives and a footer."""
    tools.run("nikola", "init", "-q", "blog", cwd=site)
    blog = site / "blog"
    settings = (blog / "conf.py").read_text().replace('("posts/*.rst", "posts", "post.tmpl"),', "")
    (blog / "conf.py").write_text(settings)
    for text in texts:
        head = f".. title: {text.title}\n.. slug: {text.key}\n.. date: 2024-05-17 10:00:00 UTC\n"
        head += f".. tags: valley, {text.kind}\n.. type: text\n"
        (blog / "posts" / f"{text.key}.md").write_text(f"<!--\n{head}-->\n\n{text.body}\n")
    tools.run("nikola", "build", "-q", cwd=blog)
    return {text.key: blog / "output" / "posts" / text.key / "index.html" for text in texts}


def notebooks(tools: Tools, site: Path, texts: list[Text]) -> Pages:
    """Notebooks as pages; what stands in fences becomes cells of code with their numbers."""
    for text in texts:
        cells = [{"cell_type": "markdown", "metadata": {}, "source": f"# {text.title}"}]
        for number, piece in enumerate(text.body.split("```")):
            source = {"source": piece.strip("\n"), "metadata": {}}
            code = {"cell_type": "code", "execution_count": number, "outputs": []}
            cells.append({**source, **(code if number % 2 else {"cell_type": "markdown"})})
        notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
        (site / f"{text.key}.ipynb").write_text(json.dumps(notebook))
    tools.run("jupyter", "nbconvert", "--to", "html", *(f"{text.key}.ipynb" for text in texts), cwd=site)
    return {text.key: site / f"{text.key}.html" for text in texts}


def pdoc(tools: Tools, site: Path, texts: list[Text]) -> Pages:
    """Documentation of modules of which each has one text as its docstring."""
    names = {text.key: text.key.replace("-", "_") for text in texts}
    for text in texts:
        (site / f"{names[text.key]}.py").write_text(f'r"""\n# {text.title}\n\n{text.body}\n"""\n')
    tools.run("pdoc", "--docformat", "markdown", "-o", "built", *(f"./{name}.py" for name in names.values()), cwd=site)
    return {key: site / "built" / f"{name}.html" for key, name in names.items()}
