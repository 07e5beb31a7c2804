"""What decides a result and is in no recipe: the pages' sources, lists of addresses, whether code can be run here.

A stage's fingerprint covers it (``Stage.outside``).  Nothing here loads what trains, so that a finished run is looked
over in a second (``herd.pipeline.standing``).
"""

from collections.abc import Sequence

from herd.corpus.blocklist import list_digests
from herd.corpus.collect import PagesConfig, pages_fingerprint
from herd.foundation.files import digest_value
from herd.tools.sandbox import Sandbox


def sources(pages: PagesConfig) -> dict[str, str]:
    """A digest of every source's versions, files and times; a source that is not there is a ``HerdError``."""
    found = enumerate(zip(pages.sources, pages_fingerprint(pages), strict=True), start=1)
    return {f"source {number}": f"{source.kind} ({digest_value(seen)})" for number, (source, seen) in found}


def interpreter() -> dict[str, str]:
    """Whether code can be run here: what was made or measured without is made again where it has become possible."""
    return {"the interpreter's sandbox": "on" if Sandbox.unavailable() is None else "off"}


def surroundings(pages: PagesConfig, blocklists: Sequence[str]) -> dict[str, str]:
    """All of it."""
    return sources(pages) | list_digests(blocklists) | interpreter()
