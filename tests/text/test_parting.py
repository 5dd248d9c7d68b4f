"""The merges of a vocabulary without some: every way of parting each token, and no more than are allowed."""

import pytest

from archcalc.errors import Invalid
from archcalc_reference.unpacking import parting


def merges(tokens):
    return parting.merges_of(tokens, {token: i for i, token in enumerate(tokens)}, {token: token for token in tokens})


def test_merges_are_every_way_of_parting_by_the_ranks_of_the_parts():
    assert merges(["a", "b", "ab", "ba", "aba"]) == [("a", "b"), ("b", "a"), ("a", "ba"), ("ab", "a")]


@pytest.mark.parametrize("bound", ["MOST_LETTERS", "MOST_MERGES", "MOST_MERGED"])
def test_merges_are_counted_while_they_are_made(bound, monkeypatch):
    """Of 20 tokens that are all parts of one text: 210 letters, 190 ways, sum of n (n - 1) = 2,660 letters of these."""
    tokens = ["a" * n for n in range(1, 21)]
    exact = {"MOST_LETTERS": 210, "MOST_MERGES": 190, "MOST_MERGED": 2_660}[bound]
    monkeypatch.setattr(parting, bound, exact)
    assert len(merges(tokens)) == 190
    monkeypatch.setattr(parting, bound, exact - 1)
    with pytest.raises(Invalid, match=r"in all|made of others"):
        merges(tokens)
