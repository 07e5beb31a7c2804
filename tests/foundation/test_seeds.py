"""Seeds: the same for ever, and never shared by accident."""

from hypothesis import given
from hypothesis import strategies as st

from herd.foundation.seeds import derive, numpy_from, random_from


def test_known_values_never_change() -> None:
    assert derive(7, "sft", "round-1") == 1655107046931073706
    assert random_from(7, "split").randrange(10**6) == 639309
    assert numpy_from(7, "split").integers(10**6) == 901517


@given(
    st.lists(st.text(alphabet="ab1", max_size=3), max_size=3), st.lists(st.text(alphabet="ab1", max_size=3), max_size=3)
)
def test_different_names_have_different_seeds(first: list[str], second: list[str]) -> None:
    assert (derive(0, *first) == derive(0, *second)) == (first == second)
