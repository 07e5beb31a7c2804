"""A finished corpus written anew with some of its training documents changed or gone, its sums and its report kept.

    with Rewrite(corpus, out) as rewrite:
        for row in read_documents(corpus / "documents"):
            rewrite.keep(row) if wanted(row) else rewrite.reject(row, "take-down", "asked for")
    rewrite.finish("take-down", {})

Held-out documents, passages and the classifier go along as they are, unless ``beside`` names what to leave behind.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa

from herd.corpus.documents import REASONS, DocumentWriter, Row, read_documents, read_schema
from herd.foundation.errors import HerdError
from herd.foundation.files import read_json, write_json

BESIDE = ("heldout", "passages.parquet", "families.jsonl", "quality.bin")


class Rewrite:
    """Writers of ``documents`` and ``rejects``, the rejects of before among them, and what one step took away."""

    def __init__(self, corpus: Path, out: Path, extra: Sequence[pa.Field] = (), keep_rejects: bool = True) -> None:
        self._corpus, self._out, self._keep_rejects = corpus, out, keep_rejects
        self.documents = DocumentWriter(out / "documents", read_schema(corpus / "documents", extra))
        folder = "rejects" if any((corpus / "rejects").glob("*.parquet")) else "documents"
        self.rejects = DocumentWriter(out / "rejects", read_schema(corpus / folder, (*REASONS, *extra)))
        self._removed, self._cut = Counter[str](), 0
        self._stack = ExitStack()

    def __enter__(self) -> "Rewrite":
        self._stack.enter_context(self.documents)
        self._stack.enter_context(self.rejects)
        if self._keep_rejects and (self._corpus / "rejects").is_dir():
            for row in read_documents(self._corpus / "rejects"):
                self.rejects.add(row)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def keep(self, row: Row, characters_cut: int = 0) -> None:
        """Writes a document that stays; ``characters_cut`` says how much of its text went."""
        self._cut += characters_cut
        self.documents.add(row)

    def reject(self, row: Row, step: str, reason: str, characters: int | None = None) -> None:
        """Writes a document that goes; ``characters`` it had before the step, where that is not its text's length."""
        self._cut += len(row["text"]) if characters is None else characters
        self._removed[reason] += 1
        self.rejects.add(row | {"rule": step, "reason": reason})

    def finish(
        self,
        step: str,
        figures: Mapping[str, Any],
        changes: Mapping[str, Any] | None = None,
        beside: Iterable[str] = BESIDE,
    ) -> None:
        """Writes the step's row of the funnel and what lies beside the documents; ``changes`` go into ``stats.json``.

        Raises:
            HerdError: no document is left for training.
        """
        if not self.documents.documents:
            raise HerdError(f"{self._corpus}: no document is left for training after {step}")
        for name in beside:
            copy_beside(self._corpus / name, self._out / name)
        stats = read_json(self._corpus / "stats.json")
        before = stats["funnel"][-1]
        row = {
            "step": step,
            "documents": before["documents"] - self._removed.total(),
            "characters": before["characters"] - self._cut,
            "removed": dict(self._removed.most_common()),
            "heldout": before.get("heldout", 0),
        }
        stats["funnel"].append(row | dict(figures))
        write_json(self._out / "stats.json", stats | dict(changes or {}))


def copy_beside(source: Path, target: Path) -> None:
    """Copies a file or a directory where it is there."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    elif source.exists():
        shutil.copy2(source, target)
