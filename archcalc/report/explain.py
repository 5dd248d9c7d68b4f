"""The sheet that explains a number: its closed form, the values put in, its terms, and where all of it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any

from archcalc.counts import flops as work
from archcalc.counts import parameters as count
from archcalc.counts.memory import memory
from archcalc.counts.quantities import QUANTITIES, Asked, values
from archcalc.errors import Invalid, Problem, nearest, printable, shown
from archcalc.plan.description import Plan
from archcalc.report.explained import OF_ALL_RANKS, Subject, meanings_of, subjects
from archcalc.report.flops import run_payload, work_numbers
from archcalc.report.kept import CACHES, cache_words
from archcalc.report.letters import letter_record, letters_table
from archcalc.report.memory import memory_numbers, standing, standing_numbers
from archcalc.report.parameters import counted_numbers, layer_records, tensor_records
from archcalc.report.render import LABEL, NARROWEST
from archcalc.report.sheet import Fields, Sheet, Table, caveats, figures, notes, payload, words
from archcalc.spec.catalogue import Found
from archcalc.spec.model import Model
from archcalc.tape.formula import Formula
from archcalc.units import binary, grouped, share

_TAPE = "read from the recorded forward pass of the spec's blocks"
SOURCES = {
    "parameters": f"product of the stored axes of each weight, {_TAPE}",
    "matrices": f"matrices in each category, {_TAPE}",
    "tally": f"rows x columns of each matrix, {_TAPE}",
    "bridge": f"product of the stored axes of each weight, {_TAPE}",
    "layers": f"product of the stored axes of each weight, {_TAPE}",
    "tensors": f"product of the stored axes of each weight, {_TAPE}",
    "flops": "2 x the product of all axes of each contraction (2mnk for a matrix product); twice that backward:"
    " Kaplan et al. 2020, arXiv:2001.08361, section 2.1; recomputation in flash attention: Dao et al."
    " 2022, arXiv:2205.14135",
    "decode": "product of the stored axes of each weight that is not only looked up; of E experts, J a token,"
    " E (1 - (1 - J / E)^B) are expected to be chosen where each choice is as likely as any other",
    "run": "FLOPs of one batch scaled to the tokens; 6 N D: Kaplan et al. 2020, arXiv:2001.08361, section 2.1",
    "memory": "bytes allocated at the peak, by the rules of PyTorch's autograd; Adam's bytes per parameter:"
    " Rajbhandari et al. 2020, arXiv:1910.02054, section 3.1; saved activations: Korthikanti et al. 2022,"
    " arXiv:2205.05198",
    "activations": "bytes of each distinct tensor that an op saves, by the rules of PyTorch's autograd: Korthikanti et"
    " al. 2022, arXiv:2205.05198",
    "cache": "bytes of what is kept of a text and the next token reads, from the recorded decode pass",
    "inference": "bytes of bf16 weights, of the cache and states of one full context, and of temporaries at the"
    " peak; the figure of `archcalc report`, which no flag changes",
    "devices": "weights, gradients and optimizer state (weights and cache in inference) over the largest capacity of"
    " the device, rounded up; the figure of `archcalc report`, which no flag changes",
}
"""Where the formula of each kind of number comes from."""

_CONVENTIONS: dict[str, dict[str, str]] = {
    **dict.fromkeys(("parameters", "tally"), count.CONVENTIONS),
    **dict.fromkeys(("flops", "run"), work.CONVENTIONS),
}

_LARGEST = "the formula is that of the peak at these sizes; other sizes may peak at another moment"


STANDING = ("inference", "devices")
_FIRST = dict.fromkeys(name.partition(".")[0] for name in QUANTITIES)  # the sections of quantities


def explainable(
    found: Found,
    asked: Asked,
    tokens: int | None = None,
    section: str | None = None,
    plan: Plan | None = None,
    where: str = "plan",
) -> dict[str, Formula]:
    """Every number that was counted, by its path in the JSON of its command, as a formula.

    Only those of one section of the JSON where one is named: memory takes its time. Under a plan they are those of the
    rank that has the most of each.
    """
    flat: dict[str, Formula] = {}
    for subject in subjects(asked, section, plan, where):
        flat |= _explainable(found, subject, tokens, section)
    return flat


def _explainable(found: Found, subject: Subject, tokens: int | None, section: str | None) -> dict[str, Formula]:
    """The numbers of a model, or of a rank."""
    letters = subject.letters
    counts = letters.counts
    parts: dict[str, Callable[[], Any]] = {
        **{name: partial(counted_numbers(counts).get, name) for name in ("tally", "bridge")},
        "flops": lambda: work_numbers(letters.flops),
        "memory": lambda: memory_numbers(memory(letters.model, letters.held, letters.keeping, letters.chosen)),
        **{name: partial(_standing, found.model, name) for name in (STANDING if subject.stages is None else ())},
        "layers": lambda: list(layer_records(counts)),
        "tensors": lambda: list(tensor_records(counts)),
    }
    if tokens is not None:
        letter = Formula.letter("tokens", tokens)
        parts["run"] = lambda: run_payload(work.training_run(letters.model, counts, letters.work, letter))
    known = {*_FIRST, *parts} if subject.sections is None else {*subject.sections}
    wanted = {section} if section in known else known
    numbers = values(letters, [name for name in _FIRST if name in wanted])
    more = {name: part() for name, part in parts.items() if name in wanted}
    flat: dict[str, Formula] = {}
    for path, number in (*_flat(numbers), *_flat(more)):
        flat.setdefault(path, Formula.of(number))
    return flat


def _standing(model: Model, section: str) -> Any:
    """What a report says of inference or devices; its memory is that of training by default, asked for as such."""
    return standing_numbers(standing(model, letters=True))[section]


def _flat(part: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number below, by path; a row of a list by its name, and by its index too."""
    if isinstance(part, dict):
        for key, inner in part.items():
            yield from _flat(inner, f"{path}.{key}" if path else key)
    elif isinstance(part, list | tuple):
        for index, row in enumerate(part):
            if isinstance(row, dict) and isinstance(name := next(iter(row.values())), str):
                yield from _flat(row, f"{path}.{name.replace(' ', '_')}")
            yield from _flat(row, f"{path}.{index}")
    elif isinstance(part, Formula | int) and not isinstance(part, bool):
        yield path, part


def explanation_sheet(
    found: Found,
    path: str | None,
    asked: Asked,
    tokens: int | None = None,
    plan: Plan | None = None,
    where: str = "plan",
) -> Sheet:
    """A number and its formula, or, without a path, all that can be asked for."""
    if path is None:
        return _index(found, explainable(found, asked, tokens, plan=plan, where=where))
    path, subject, formula = _formula(found, path, asked, tokens, plan, where)
    section = path.partition(".")[0]
    convention = _convention(path)
    terms = formula.by_size()
    letters = [letter_record(found, one) for one in meanings_of(formula, found.model, plan)]
    return Sheet(
        title=f"{found.name}: {path} = {_with_unit(path, formula.value)}{subject.of(plan)}",
        blocks=(
            Fields((("Formula", tuple(formula.lines(NARROWEST - LABEL))),)),
            *([_terms_table(formula)] if terms and not any(_is_long(term) for term in terms) else []),
            *([letters_table(letters)] if letters else []),
            Fields(
                (
                    *([("Convention", (convention,))] if convention else []),
                    *([("Kept", (cache_words(found.model),))] if path in CACHES else []),
                    *subject.lines(plan, found.model, section),
                    ("Source", (SOURCES[section],)),
                    *caveats(found),
                )
            ),
        ),
        payload=payload(
            found.name,
            path=path,
            value=_plain(formula.value),
            formula=str(formula),
            latex=formula.latex(),
            rows=[{"term": str(term), "value": _plain(term.value)} for term in terms],
            letters=letters,
            convention=convention,
            source=SOURCES[section],
            **subject.numbers(plan, found.model),
            **notes(found),
        ),
        records=tuple({"term": str(term), "value": _plain(term.value)} for term in terms),
    )


def _with_unit(path: str, n: Fraction | int) -> str:
    """A figure in full with its unit, and bytes in binary units too."""
    section = path.partition(".")[0]
    unit = QUANTITIES[path].unit if path in QUANTITIES else _UNITS.get(section, "")
    short = f" ({binary(n)})" if unit == "bytes" and isinstance(n, int) and n >= _KIB else ""
    return f"{_number(n)} {unit}".rstrip() + short


_KIB = 1024
_UNITS = {**dict.fromkeys(("memory", "inference"), "bytes"), "flops": "FLOPs", "bridge": "parameters"}
"""Of every number in a section of the JSON that is no quantity."""


_SHORT = 20  # characters of a floor or a ceiling that fit a row


def _is_long(term: Formula) -> bool:
    """Whether it has a floor or a ceiling that is too long for a row."""
    return any(letter.inside and len(letter.name) > _SHORT for monomial in term.terms for letter, _ in monomial)


def _convention(path: str) -> str | None:
    """What is meant: of a quantity its meaning, of its parts the convention of the last word that has one."""
    section, *rest = path.split(".")
    largest = section in ("memory", "inference", "devices") and not {"state", "weights"} & set(rest)
    if path in QUANTITIES:
        return QUANTITIES[path].meaning + (f"; {_LARGEST}" if largest else "")
    if largest:
        return _LARGEST
    known = _CONVENTIONS.get(section, {})
    return next((known[word] for word in reversed(rest) if word in known), None)


def _terms_table(formula: Formula) -> Table:
    whole = float(formula.value)
    rows = tuple(
        (str(term), term.with_values(), _number(term.value), share(float(term.value), whole))
        for term in formula.by_size()
    )
    return Table((*words("term", "with values"), *figures("value", "share")), rows, title="Terms, largest first")


def _formula(
    found: Found, path: str, asked: Asked, tokens: int | None, plan: Plan | None, where: str
) -> tuple[str, Subject, Formula]:
    """The formula of a number, and of what it is. Raises Invalid where there is no such number."""
    path = path.strip().replace(" ", "_")
    section = path.partition(".")[0]
    if plan is not None and section in OF_ALL_RANKS:
        what, fix = OF_ALL_RANKS[section]
        raise Invalid(Problem("QUANTITY", what, value=shown(path), suggestion=fix))
    (subject, *_) = subjects(asked, section, plan, where)
    numbers = _explainable(found, subject, tokens, section)
    return path, subject, _pick(path, numbers, subject.asked)


def latex(
    found: Found, path: str, asked: Asked, tokens: int | None = None, plan: Plan | None = None, where: str = "plan"
) -> str:
    """The formula in LaTeX, broken into lines of four terms, and a table of its letters. It needs amsmath."""
    path, _, formula = _formula(found, path, asked, tokens, plan, where)
    first, *more = formula.latex_lines()
    lines = [
        f"% {_ascii(found.name)}: {_ascii(path)} = {_number(formula.value)}; needs \\usepackage{{amsmath}}",
        r"\begin{equation*}",
        r"\begin{aligned}",
        rf"\text{{{_latex_text(path)}}} ={{}} & {first}" + r" \\" * bool(more),
        *(rf"& {{}} {line}" + r" \\" * (line is not more[-1]) for line in more),
        r"\end{aligned}",
        r"\end{equation*}",
    ]
    if letters := meanings_of(formula, found.model, plan):
        lines += [r"\begin{tabular}{lrl}"]
        lines += [
            rf"${Formula.letter(*one.letter[:2]).latex()}$ & {_number(one.letter.value)} & {_latex_text(one.words)} \\"
            for one in letters
        ]
        lines += [r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def _ascii(text: str) -> str:
    """On one line, with what is not ASCII escaped."""
    return printable(text).encode("ascii", "backslashreplace").decode()


def _latex_text(text: str) -> str:
    """As LaTeX takes it in text."""
    escaped = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(escaped.get(c, f"\\{c}" if c in "_&%#${}" else c) for c in _ascii(text))


def _index(found: Found, numbers: dict[str, Formula]) -> Sheet:
    """Every path, each number once: a row of a list under its name."""
    named = {path: n for path, n in numbers.items() if not any(part.isdigit() for part in path.split("."))}
    rows = tuple((path, _number(n.value), str(n)) for path, n in named.items())
    return Sheet(
        title=f"{found.name}: {len(named):,} quantities that can be explained",
        blocks=(Table((*words("quantity"), *figures("value")), tuple(row[:2] for row in rows)),),
        payload=payload(
            found.name,
            rows=[{"path": path, "value": _plain(n.value), "formula": str(n)} for path, n in named.items()],
        ),
        records=tuple({"path": path, "value": _plain(n.value), "formula": str(n)} for path, n in named.items()),
    )


def _pick(path: str, numbers: dict[str, Formula], asked: Asked) -> Formula:
    """The number at a path. Raises Invalid where there is none, with the flag that it needs or what is near."""
    if path in numbers:
        return numbers[path]
    if path in QUANTITIES and (refused := QUANTITIES[path].refusal(asked)):
        raise Invalid(Problem("QUANTITY", refused, value=shown(path)))
    if path.partition(".")[0] == "run":
        raise Invalid(
            Problem("QUANTITY", "needs the number of training tokens", value=shown(path), suggestion="add --tokens")
        )
    below = [known for known in numbers if known.startswith(f"{path}.") and not known[len(path) + 1 :][0].isdigit()]
    named = [known for known in numbers if not any(part.isdigit() for part in known.split("."))]
    section = path.partition(".")[0]
    ends = [name for name in QUANTITIES if name.endswith(f".{section}")]  # of training.total: flops.training
    near = below or ends or nearest(path, [*QUANTITIES, *(known for known in named if known not in QUANTITIES)], 3)
    suggestion = f"{'below it' if below else 'nearest'}: {', '.join(near[:3])}" if near else None
    what = "is not a single number" if below else "is not a number of report, params, flops or memory"
    raise Invalid(
        Problem("QUANTITY", what, value=shown(path), suggestion=suggestion or "leave out QUANTITY to list all of them")
    )


def _number(n: Fraction | int) -> str:
    return grouped(n) if isinstance(n, int) else f"{float(n):,.6g}"


def _plain(n: Fraction | int) -> int | float:
    return n if isinstance(n, int) else float(n)
