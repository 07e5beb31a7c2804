"""Stored signatures are NumPy's file read row by row; families grow by joins as the components of a graph."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herd.corpus.dedup import Forest
from herd.corpus.signatures import StoredSignatures, write_signatures


@pytest.mark.parametrize("rows", [[], [0], [9], [0, 1, 2, 5, 6, 9], [7, 3, 3, 4], list(range(10))])
def test_rows_are_those_of_numpy(tmp_path: Path, rows: list[int]) -> None:
    table = np.random.default_rng(0).integers(0, 1 << 32, (10, 6), dtype=np.uint32)
    np.save(tmp_path / "whole.npy", table)
    write_signatures(tmp_path / "parts.npy", (table[:3], table[3:3], table[3:]), table.shape)
    assert (tmp_path / "parts.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    stored = StoredSignatures(tmp_path / "parts.npy")
    assert (len(stored), stored.shape) == (10, (10, 6))
    assert stored[np.array(rows, dtype=np.int64)].tolist() == table[np.array(rows, dtype=np.int64)].tolist()


def test_what_is_no_table_of_signatures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "signatures.npy"
    for table in (np.zeros(4, np.uint32), np.zeros((2, 2), np.uint64), np.zeros((2, 3), np.uint32, order="F")):
        np.save(path, table)
        with pytest.raises(ValueError, match="not signatures"):
            StoredSignatures(path)
    np.save(path, np.zeros((2, 2), np.uint32))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="not as long as its 2 signatures"):
        StoredSignatures(path)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=8), max_size=6))
def test_families_are_components_named_by_their_first_members(joins: list[list[tuple[int, int]]]) -> None:
    forest, families = Forest(20), [{member} for member in range(20)]
    for pairs in joins:
        forest.join(np.array(pairs, dtype=np.int64).reshape(-1, 2))
        for pair in pairs:
            met = [family for family in families if family & set(pair)]
            families = [family for family in families if family not in met] + [set().union(*met)]
        apart = {(one, other) for family in families for one in family for other in range(20) if other not in family}
        every = np.array([(one, other) for one in range(20) for other in range(20)])
        assert {tuple(pair) for pair in every[forest.are_apart(every)].tolist()} == apart
    first = {member: min(family) for family in families for member in family}
    assert forest.firsts().tolist() == [first[member] for member in range(20)]
