"""The held-out split: by id alone, in every domain, near its share."""

import random

from herd.corpus.split import SplitConfig, held_out

DOCUMENTS = [(f"id{n}", "math" if n % 10 == 0 else "general") for n in range(4000)]


def test_share_in_every_domain() -> None:
    chosen = held_out(DOCUMENTS, SplitConfig())
    assert sum(identifier in chosen for identifier, domain in DOCUMENTS if domain == "math") == 10
    assert sum(identifier in chosen for identifier, domain in DOCUMENTS if domain == "general") == 90


def test_order_does_not_matter_and_the_seed_does() -> None:
    shuffled = DOCUMENTS[:]
    random.Random(0).shuffle(shuffled)
    assert held_out(shuffled, SplitConfig()) == held_out(DOCUMENTS, SplitConfig())
    assert held_out(DOCUMENTS, SplitConfig(seed=1)) != held_out(DOCUMENTS, SplitConfig())


def test_few_documents_still_give_one_and_too_few_none() -> None:
    assert len(held_out([*DOCUMENTS[1:10], ("x", "general")], SplitConfig())) == 1
    assert held_out(DOCUMENTS[1:10], SplitConfig()) == set()
    assert held_out(DOCUMENTS, SplitConfig(heldout=0.0)) == set()


def test_new_documents_move_few_others() -> None:
    before = held_out(DOCUMENTS, SplitConfig())
    after = held_out([*DOCUMENTS, *((f"new{n}", "general") for n in range(400))], SplitConfig())
    assert len(before - after) <= 12
