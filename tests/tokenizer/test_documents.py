"""Reading a corpus: what is broken is named."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from herd.foundation.errors import HerdError
from herd.tokenizer.documents import read_document_file


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    """Parquet does not check its strings, so a careless writer's bytes arrive here."""
    offsets, bytes_ = pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe")
    text = pa.Array.from_buffers(pa.string(), 1, [None, offsets, bytes_])
    path = tmp_path / "0.parquet"
    pq.write_table(pa.table({"text": text}), path)
    with pytest.raises(HerdError, match=r"0\.parquet: holds text that is not UTF-8"):
        list(read_document_file(path, ("text",)))
