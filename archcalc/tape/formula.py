"""A formula that is also a number: sums of products of letters, which sizes of a model can be instead of ints.

The functions that count a model take it as they take ints and arrays, so the closed form of a figure is written by the
code that counts it, and never beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

ORDER = ("L", "B", "S", "T", "tokens", "G", "R", "K", "W", "D", "F", "V", "P")
"""How letters follow each other in a product: how often, over which positions, then the sizes of a layer."""


class Letter(NamedTuple):
    """A letter, a word, or `floor(...)` or `ceil(...)` of a formula with letters `inside`, and what it stands for.

    What `divides` may stand below a line: the ranks of a plan, which divide the sizes that they cut.
    """

    name: str
    value: int
    inside: tuple[Letter, ...] = ()
    written: str = ""
    opposite: Letter | None = None  # of a floor the ceiling of what is inside with the other sign, and back
    divides: bool = False

    @property
    def stem(self) -> str:
        """Without the number that tells groups of layers apart."""
        return self.name.rstrip("0123456789")

    @property
    def rank(self) -> tuple[int, str]:
        return _rank(self.name)


@lru_cache(4_096)
def _rank(name: str) -> tuple[int, str]:
    stem = name.rstrip("0123456789")
    return (ORDER.index(stem) if stem in ORDER else len(ORDER), name)


Monomial = tuple[tuple[Letter, int], ...]
"""Letters with their powers, in order."""


class Formula:
    """A polynomial in letters of known value.

    `terms` are its products with their coefficients; `value` is what they come to. Comparisons are those of the value,
    so where the larger of two is taken, the formula is that of the one that is larger here.
    """

    __slots__ = ("terms", "value")

    def __init__(self, terms: Mapping[Monomial, Fraction | int], value: Fraction | int) -> None:
        self.terms = {monomial: n if type(n) is int else _plain(n) for monomial, n in terms.items() if n}
        self.value = _plain(value)

    @classmethod
    def letter(cls, name: str, value: int, *, divides: bool = False) -> Formula:
        """A letter, which may be a word."""
        return cls({((Letter(name, value, divides=divides), 1),): 1}, value)

    @classmethod
    def of(cls, x: Any) -> Formula:
        """A number as a formula without letters."""
        return x if isinstance(x, Formula) else cls({(): x}, x)

    def __add__(self, other: Any) -> Formula:
        other = Formula.of(other)
        terms = dict(self.terms)
        for monomial, n in other.terms.items():
            terms[monomial] = terms.get(monomial, 0) + n
        return Formula(terms, self.value + other.value)

    def with_all(self, others: Iterable[Any]) -> Formula:
        """The sum of it and all the others, put together once."""
        terms, value = dict(self.terms), self.value
        for other in map(Formula.of, others):
            value += other.value
            for monomial, n in other.terms.items():
                terms[monomial] = terms.get(monomial, 0) + n
        return Formula(terms, value)

    def __mul__(self, other: Any) -> Formula:
        if type(other) is int:  # most often: a width in bytes, or a repeat
            if other == 1:
                return self
            return Formula({monomial: n * other for monomial, n in self.terms.items()}, self.value * other)
        other = Formula.of(other)
        terms: dict[Monomial, Fraction | int] = {}
        for mine, n in self.terms.items():
            for yours, m in other.terms.items():
                product = _times(mine, yours)
                terms[product] = terms.get(product, 0) + n * m
        return Formula(terms, self.value * other.value)

    def __neg__(self) -> Formula:
        word = self._word()
        if word is not None and word.opposite is not None:  # -(-n // k) is a ceiling
            return Formula({((word.opposite._replace(opposite=word._replace(opposite=None)), 1),): 1}, -self.value)
        return self * -1

    def _word(self) -> Letter | None:
        """The letter that it is, where it is one alone."""
        terms = list(self.terms.items())
        if len(terms) == 1 and terms[0][1] == 1 and len(terms[0][0]) == 1 and terms[0][0][0][1] == 1:
            return terms[0][0][0][0]
        return None

    def __sub__(self, other: Any) -> Formula:
        return self + Formula.of(other) * -1

    def __rsub__(self, other: Any) -> Formula:
        return Formula.of(other) - self

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Any) -> Formula:
        """By a number, or by a product of letters that every term has, or that divide.

        Raises ArithmeticError where a term lacks one.
        """
        other = Formula.of(other)
        if len(other.terms) != 1:
            raise ArithmeticError(f"{other} is no product")
        ((monomial, n),) = other.terms.items()
        inverse = tuple((letter, -power) for letter, power in monomial)
        terms = {_times(mine, inverse): Fraction(m) / n for mine, m in self.terms.items()}
        if any(power < 0 and not letter.divides for found in terms for letter, power in found):
            raise ArithmeticError(f"{other} is no factor of {self}")
        return Formula(terms, Fraction(self.value) / other.value)

    def __rtruediv__(self, other: Any) -> Formula:
        return Formula.of(other) / self

    def __floordiv__(self, other: Any) -> Formula:
        """A quotient that is not a whole number is written as floor(...), which is -ceil(...) of the negative."""
        other = Formula.of(other)
        whole = int(self.value // other.value)
        with suppress(ArithmeticError):
            quotient: Formula = self / other
            if quotient.value == whole:
                return quotient
        floor = _rounded("floor", self, other, whole)
        return Formula({((floor._replace(opposite=_rounded("ceil", -self, other, -whole)), 1),): 1}, whole)

    def __rfloordiv__(self, other: Any) -> Formula:
        return Formula.of(other) // self

    def __eq__(self, other: object) -> bool:
        return bool(self.value == (other.value if isinstance(other, Formula) else other))

    def __gt__(self, other: Any) -> bool:
        return bool(self.value > Formula.of(other).value)

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < Formula.of(other).value)

    def __int__(self) -> int:
        return int(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __hash__(self) -> int:
        return hash(self.value)

    @property
    def letters(self) -> list[Letter]:
        """The letters that stand in it, in their order."""
        found = [inner for monomial in self.terms for x, _ in monomial for inner in (x.inside or (x,))]
        return sorted(set(found), key=lambda letter: letter.rank)

    def by_size(self) -> list[Formula]:
        """Its terms, the largest first."""
        found = [Formula({monomial: n}, _value(monomial, n)) for monomial, n in self.terms.items()]
        return sorted(found, key=lambda term: -float(abs(term.value)))

    def __str__(self) -> str:
        """As it is read: `2 B S D F + 12 L D^2`, the largest term first."""
        return self._written(_product)

    def lines(self, width: int) -> list[str]:
        """The text in lines of at most `width`, broken between terms."""
        lines: list[str] = []
        for word in str(self).replace(" + ", "\n+ ").replace(" - ", "\n- ").splitlines():
            if lines and len(lines[-1]) + 1 + len(word) <= width:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
        return lines

    def latex(self) -> str:
        """The same in LaTeX, without the dollars."""
        return self._written(_latex_product)

    def latex_lines(self, terms: int = 4) -> list[str]:
        """The same in lines of so many terms."""
        pieces = self._pieces(_latex_product)
        return ["".join(pieces[at : at + terms]).strip() for at in range(0, len(pieces), terms)] or ["0"]

    def with_values(self) -> str:
        """The same with the values in place of the letters: `2 x 8 x 2,048`."""
        return self._written(lambda monomial, n: _product(monomial, n, values=True))

    def _written(self, product: Any) -> str:
        return "".join(self._pieces(product)) or "0"

    def _pieces(self, product: Any) -> list[str]:
        """Each term with its sign, the largest first."""
        pieces: list[str] = []
        for term in self.by_size():
            ((monomial, n),) = term.terms.items()
            sign = ("-" if n < 0 else "") if not pieces else (" - " if n < 0 else " + ")
            pieces.append(sign + product(monomial, abs(n)))
        return pieces


def word(name: str, value: int, of: Iterable[Formula], written: str, *, divides: bool = False) -> Formula:
    """A number that is no polynomial, as a word: its name, its value, the formulas in it, and how LaTeX writes it."""
    inside = tuple(dict.fromkeys(letter for formula in of for letter in formula.letters))
    return Formula({((Letter(name, value, inside, written, divides=divides), 1),): 1}, value)


def _rounded(how: str, n: Formula, k: Formula, value: int) -> Letter:
    """A quotient rounded down or up as a word: ceil((a + b) / 8)."""
    inside = tuple(dict.fromkeys([*n.letters, *k.letters]))
    above = f"({n})" if len(n.terms) > 1 else str(n)
    below = f"({k})" if " " in str(k) else str(k)
    side = "floor" if how == "floor" else "ceil"
    lines = n.latex_lines()
    top = r" \\ ".join(lines)
    top = top if len(lines) == 1 else rf"\begin{{gathered}} {top} \end{{gathered}}"
    written = rf"\left\l{side} \frac{{{top}}}{{{k.latex()}}} \right\r{side}"
    return Letter(f"{how}({above} / {below})", value, inside, written)


def _plain(n: Fraction | int) -> Fraction | int:
    return n.numerator if n.denominator == 1 else n


def _times(mine: Monomial, yours: Monomial) -> Monomial:
    if not (mine and yours):
        return mine or yours
    powers = dict(mine)
    for letter, power in yours:
        powers[letter] = powers.get(letter, 0) + power
    return tuple(sorted(((x, power) for x, power in powers.items() if power), key=lambda found: found[0].rank))


def _value(monomial: Monomial, n: Fraction | int) -> Fraction | int:
    for letter, power in monomial:
        n = n * letter.value**power if power > 0 else Fraction(n) / letter.value**-power
    return n


def _product(monomial: Monomial, n: Fraction | int, *, values: bool = False) -> str:
    above, below = _split(monomial)
    factors = [] if n == 1 and above else [f"{n:,}" if isinstance(n, int) and values else str(n)]
    times = " x " if values else " "
    factors += [_power(f"{letter.value:,}" if values else letter.name, power) for letter, power in above]
    if not below:
        return times.join(factors)
    divisors = [_power(f"{letter.value:,}" if values else letter.name, power) for letter, power in below]
    return f"{times.join(factors)} / {divisors[0] if len(divisors) == 1 else f'({times.join(divisors)})'}"


def _split(monomial: Monomial) -> tuple[Monomial, Monomial]:
    """What multiplies, and what divides, each with a power above 0."""
    above = tuple((letter, power) for letter, power in monomial if power > 0)
    return above, tuple((letter, -power) for letter, power in monomial if power < 0)


def _power(name: str, power: int) -> str:
    return name + (f"^{power}" if power != 1 else "")


def _latex_product(monomial: Monomial, n: Fraction | int) -> str:
    above, below = _split(monomial)
    if below:
        bottom = _latex_product(below, n.denominator)
        return rf"\frac{{{_latex_product(above, n.numerator)}}}{{{bottom}}}"
    factors = [] if n == 1 and monomial else [rf"\frac{{{n.numerator}}}{{{n.denominator}}}"]
    if n.denominator == 1:
        factors = [str(n)] if factors else []
    for letter, power in monomial:
        stem, index = letter.stem, letter.name[len(letter.stem) :]
        name = letter.written or (stem if len(stem) == 1 else rf"\mathrm{{{stem}}}")
        factors.append(name + (f"_{{{index}}}" if index else "") + (f"^{{{power}}}" if power != 1 else ""))
    return r" \, ".join(factors)
