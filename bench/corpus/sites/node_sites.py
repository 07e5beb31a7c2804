"""Sites made by generators of Node: Hexo, HonKit, VitePress and TiddlyWiki."""

import json
from pathlib import Path

from texts import Text
from tools import Tools

Pages = dict[str, Path]
_HEXO = """title: Notes of the valley
subtitle: What we wrote down
author: Robin Ash
url: https://notes.example
permalink: :title/
theme: {theme}
post_asset_folder: false
highlight: {{line_number: true}}
"""
_VITEPRESS = """export default {{
  title: "Notes of the valley", cleanUrls: false,
  themeConfig: {{
    nav: [{{ text: "Guide", link: "/" }}, {{ text: "Maps", link: "https://maps.example/" }}],
    sidebar: [{{ text: "All notes", items: {items} }}],
    editLink: {{ pattern: "https://edit.example/:path" }},
    footer: {{ message: "Free to copy.", copyright: "The valley" }},
  }},
}}
"""


def hexo(tools: Tools, site: Path, texts: list[Text], theme: str) -> Pages:
    """A blog with its lists of recent posts, tags, categories and archives."""
    packages = json.loads((tools.node / "package.json").read_text())["dependencies"]
    (site / "package.json").write_text(json.dumps({"name": "blog", "hexo": {"version": ""}, "dependencies": packages}))
    (site / "node_modules").symlink_to(tools.node.resolve() / "node_modules")
    (site / "_config.yml").write_text(_HEXO.format(theme=theme))
    posts = site / "source" / "_posts"
    posts.mkdir(parents=True)
    for text in texts:
        head = (
            f"title: {json.dumps(text.title)}\ndate: 2024-05-17 10:00:00\ncategories: [{text.kind}]\ntags: [valley]\n"
        )
        (posts / f"{text.key}.md").write_text(f"---\n{head}---\n\n{text.body}\n")
    tools.run("hexo", "generate", "--silent", cwd=site)
    return {text.key: site / "public" / text.key / "index.html" for text in texts}


def honkit(tools: Tools, site: Path, texts: list[Text]) -> Pages:
    """A book with its chapters at the left."""
    (site / "README.md").write_text("# Notes of the valley\n\nWhat we wrote down, for those who come after us.\n")
    lines = [f"* [{text.title}]({text.key}.md)" for text in texts]
    (site / "SUMMARY.md").write_text("\n".join(["# Summary", "", "* [Introduction](README.md)", *lines, ""]))
    for text in texts:
        (site / f"{text.key}.md").write_text(f"# {text.title}\n\n{text.body}\n")
    tools.run("honkit", "build", cwd=site)
    return {text.key: site / "_book" / f"{text.key}.html" for text in texts}


def vitepress(tools: Tools, site: Path, texts: list[Text]) -> Pages:
    """Documentation with sidebars on both sides, rendered to HTML ahead of its scripts."""
    items = [{"text": text.title, "link": f"/{text.key}"} for text in texts]
    (site / "node_modules").symlink_to(tools.node.resolve() / "node_modules")
    (site / ".vitepress").mkdir()
    (site / ".vitepress" / "config.mjs").write_text(_VITEPRESS.format(items=json.dumps(items)))
    (site / "index.md").write_text("# Notes of the valley\n")
    for text in texts:
        (site / f"{text.key}.md").write_text(f"# {text.title}\n\n{text.body}\n")
    tools.run("vitepress", "build", cwd=site)
    return {text.key: site / ".vitepress" / "dist" / f"{text.key}.html" for text in texts}


def tiddlywiki(tools: Tools, site: Path, texts: list[Text]) -> Pages:
    """The static pages of a wiki, one a tiddler."""
    (site / "tiddlywiki.info").write_text(
        json.dumps({"plugins": ["tiddlywiki/markdown"], "themes": ["tiddlywiki/vanilla", "tiddlywiki/snowwhite"]})
    )
    tiddlers = site / "tiddlers"
    tiddlers.mkdir()
    for text in texts:
        head = f"title: {text.title}\ntags: [[{text.kind}]] page\ntype: text/x-markdown\nmodifier: Robin\n"
        (tiddlers / f"{text.key}.tid").write_text(f"{head}modified: 20240517100000000\n\n{text.body}\n")
    for text in texts:
        template = ["text/plain", "$:/core/templates/static.tiddler.html"]
        tools.run("tiddlywiki", ".", "--render", f"[[{text.title}]]", f"{text.key}.html", *template, cwd=site)
    return {text.key: site / "output" / f"{text.key}.html" for text in texts}
