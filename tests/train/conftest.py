"""What the tests of training read, made once."""

from pathlib import Path

import pytest

from tests.songs import make_songs


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A corpus of counting songs: token shards and the tokenizer."""
    return make_songs(tmp_path_factory.mktemp("artifacts"))
