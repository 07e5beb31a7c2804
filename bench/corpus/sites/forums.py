"""Threads in the templates of forums (NodeBB, django-machina, Spirit), articles in those of a wiki (django-wiki)."""

import json
from dataclasses import asdict
from pathlib import Path

from texts import Text
from tools import Tools

Pages = dict[str, Path]
_HERE = Path(__file__).parent


def nodebb(tools: Tools, site: Path, texts: list[Text], theme: str) -> Pages:
    """Threads in one of NodeBB's themes."""
    _write(site, texts)
    tools.run("node", str(_HERE / "nodebb_pages.mjs"), f"nodebb-theme-{theme}", cwd=site)
    return {text.key: site / f"{text.key}.html" for text in texts}


def machina(tools: Tools, site: Path, texts: list[Text]) -> Pages:
    """Threads in a forum of Django's."""
    return _django(tools, site, texts, "machina")


def spirit(tools: Tools, site: Path, texts: list[Text]) -> Pages:
    """Threads in another forum of Django's, whose posts are called comments."""
    return _django(tools, site, texts, "spirit")


def wiki(tools: Tools, site: Path, texts: list[Text]) -> Pages:
    """Articles in a wiki of Django's."""
    return _django(tools, site, texts, "wiki")


def _django(tools: Tools, site: Path, texts: list[Text], kind: str) -> Pages:
    _write(site, texts)
    tools.run(str(tools.django / "bin" / "python"), str(_HERE / "django_pages.py"), kind, cwd=site)
    return {text.key: site / f"{text.key}.html" for text in texts}


def _write(site: Path, texts: list[Text]) -> None:
    """What the programs inside the generators' environments read."""
    rows = [{"key": text.key, "title": text.title, "posts": list(map(asdict, text.posts))} for text in texts]
    (site / "texts.json").write_text(json.dumps(rows), encoding="utf-8")
