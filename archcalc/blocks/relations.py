"""Relations between the sizes of a block that hold in many specs, as data: a question that changes one keeps them.

`gpt2@d_model=1024` keeps heads of 64 and an MLP of four times the width, since that is how GPT-2 is made. A relation
that does not hold in a spec is not kept, and a field that the question names is never adjusted. Sizes are ints or
arrays: conditions are masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from archcalc.tape.legend import Size, anywhere, choose
from archcalc.units import grouped

Sizes = dict[str, Size]


class Step(NamedTuple):
    """A size that follows others: what it is now, what it was made of, and what that keeps."""

    field: str
    size: Size
    rule: str
    because: str


class Relation:
    """A relation between fields of a block, `outer` ones of the model among them."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.fields = fields

    def steps(self, was: Mapping[str, int], now: Sizes, free: set[str]) -> Iterator[Step]:
        """What must follow for the relation to hold `now` as it did; `free` are the fields that may."""
        raise NotImplementedError


class Product(Relation):
    """`fields` are two factors and their product: n_heads x d_head = d_model. The first follows where it can."""

    def steps(self, was: Mapping[str, int], now: Sizes, free: set[str]) -> Iterator[Step]:
        first, second, whole = self.fields
        if was[first] * was[second] != was[whole]:
            return
        because = f"{first} x {second} = {whole}"
        product, one, other = (_term(name, now[name]) for name in (whole, second, first))
        torn = now[first] * now[second] != now[whole]
        firsts = torn & (first in free) & (now[whole] % now[second] == 0)
        rest = torn ^ firsts
        seconds = rest & (second in free) & (now[whole] % now[first] == 0)
        if anywhere(firsts):
            now[first] = choose(firsts, now[whole] // now[second], now[first])
            rule = f"{product} / {one}" + " where that is whole" * anywhere(rest)
            yield Step(first, now[first], rule, because)
        if anywhere(seconds):
            now[second] = choose(seconds, now[whole] // now[first], now[second])
            only = " only" * anywhere(firsts)
            some = f" where{only} that is whole" if only or anywhere(rest ^ seconds) else ""
            yield Step(second, now[second], f"{product} / {other}{some}", because)


class Same(Relation):
    """The first field is the second: n_kv_heads = n_heads."""

    def steps(self, was: Mapping[str, int], now: Sizes, free: set[str]) -> Iterator[Step]:
        follower, leader = self.fields
        if was[follower] == was[leader] and follower in free and anywhere(now[leader] != was[leader]):
            now[follower] = now[leader]
            yield Step(follower, now[leader], leader, f"{follower} = {leader}")


class Multiple(Relation):
    """The first field is a whole multiple of the second: d_ff = 4 x d_model."""

    def steps(self, was: Mapping[str, int], now: Sizes, free: set[str]) -> Iterator[Step]:
        follower, leader = self.fields
        if was[follower] % was[leader] == 0 and follower in free and anywhere(now[leader] != was[leader]):
            times = was[follower] // was[leader]
            now[follower] = times * now[leader]
            yield Step(follower, now[follower], f"{times} x {leader}", f"{follower} = {times} x {leader}")


def _term(name: str, size: Size) -> str:
    """A size in a rule: a number, or the name of what is many."""
    return grouped(size) if isinstance(size, int) else name
