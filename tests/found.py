"""Outcomes of `check` with every kind of problem, for the tests of the formats."""

from archcalc.checks.outcome import Bound, Excused, Outcome
from archcalc.checks.verdict import Check, Verdict
from archcalc.errors import Edit, Problem

# An escape, a bell, DEL, 8-bit CSI and NEL, a mark of direction, zero width, a line separator, a lone surrogate, what
# is no character; the delimiters and the markup of every format, and a command of a workflow.
HOSTILE = (
    "\x1b[2J\x07\x00\x0b\x7f\x9b31m\x85\u202e\u200b\u2028\ud800\ufffe\r\n::error file=x::y\n##[add-path]/tmp"
    "]]>-->&amp;<img src=x>|`*_a_~$x$\\|%0A::stop,a=b:c\"'[t](javascript:x) ![i](http://x) @octocat #12 www.x.y"
)

LEVELS = {"AC001": "error", "AC002": "error", "AC003": "error", "AC101": "error", "AC102": "warning"}


def problem(file, rule, message, **parts):
    return Problem(file, message, rule=rule, level=LEVELS[rule], **parts)


INVALID = problem(
    "specs/broken.yaml",
    "AC001",
    "unknown field",
    path="d_modl",
    line=3,
    column=1,
    suggestion="did you mean 'd_model'?",
)
UNREADABLE = problem("specs/empty.yaml", "AC001", "is empty")
OVER = problem(
    "specs/big.yaml", "AC002", "parameters.stored is over the budget of at most 1.6B", value="1,700,000,000"
)
UNKNOWN_BUDGET = problem(
    "archcalc.yaml", "AC003", "parameters.stord is no quantity", path="budgets.2.that", line=4, column=11
)
DIFFERS = problem(
    "specs/big.yaml",
    "AC101",
    "parameters 1.5B does not hold",
    path="published.0",
    line=40,
    column=5,
    value="1,700,000,000",
)
FIXABLE = problem(
    "specs/big.yaml",
    "AC102",
    "AC120 is allowed and not broken",
    path="allow.0",
    line=9,
    column=5,
    suggestion="remove the entry",
    edits=(Edit(("allow",), None),),
)
PLAIN = problem("specs/big.yaml", "AC102", "AC130 is allowed and not broken", path="allow.1", line=10, column=5)
ALLOWED = problem("specs/excused.yaml", "AC101", "parameters 2B does not hold", path="published.1", line=12, column=5)
KNOWN = problem("specs/excused.yaml", "AC002", "cache.per_token is over the budget of 300 KiB", value="332,800")
NOWHERE = problem("<stdin>", "AC001", "must be a mapping", path="layers.0", line=2, column=1)

EVERY = [
    Outcome("specs/broken.yaml", "unknown", "broken", (INVALID,)),
    Outcome("specs/empty.yaml", "unknown", "", (UNREADABLE,)),
    Outcome(
        "specs/big.yaml",
        "model",
        "big",
        (OVER, UNKNOWN_BUDGET, FIXABLE, PLAIN, DIFFERS),
        bounds=(
            Bound("parameters.stored", "1.6B", "parameters", 1_700_000_000, 1_600_000_000, problem=OVER),
            Bound("flops.training", "1.2x main:specs/big.yaml", "FLOPs", 1_100, 1_200),
            Bound("memory.total", "a100-40gb", "bytes", 40 * 2**30, 40 * 2**30, device="a100-40gb"),
            Bound("parameters.active", "1B", "parameters", 1_250_000_000, 1_000_000_000, at_least=True),
        ),
        verdict=Verdict(
            "big",
            (
                Check("parameters 1.5B", 1_700_000_000, 1_500_000_000, False, "DOES NOT HOLD", "a paper"),
                Check("parameters 1,700M", 1_700_000_000, 1_700_000_000, True, "holds to 4 digits", "a paper"),
                Check("parameters 2B", 1_700_000_000, 2_000_000_000, False, "nominal", "its name", False),
            ),
            warnings=("Table 1 prints d_ff 3; 4 is used",),
            assumptions=("dense attention",),
        ),
    ),
    Outcome(
        "specs/excused.yaml",
        "model",
        "excused",
        excused=(
            Excused(ALLOWED, "the paper rounds", "in the spec"),
            Excused(KNOWN, "archcalc-baseline.json", "in the baseline"),
        ),
        bounds=(Bound("cache.per_token", "300 KiB", "bytes", 332_800, 307_200, problem=KNOWN),),
        verdict=Verdict("excused", (Check("parameters 1B", 1, 1, True), Check("parameters 2B", 1, 2, False, "DOES NOT HOLD"))),
    ),
    Outcome("plans/dp8.yaml", "plan", "dp8"),
    Outcome("<stdin>", "unknown", "", (NOWHERE,)),
]  # fmt: skip
"""One of each kind."""

HOSTILE_ONES = [
    Outcome(
        f"specs/{HOSTILE}.yaml",
        "model",
        HOSTILE,
        (
            problem(f"specs/{HOSTILE}.yaml", "AC001", HOSTILE, path=HOSTILE, line=1, column=2, value=HOSTILE, suggestion=HOSTILE),
            problem(HOSTILE, "AC102", HOSTILE, path=HOSTILE, edits=(Edit((HOSTILE,), HOSTILE),)),
            Problem(HOSTILE, HOSTILE, HOSTILE, rule="AC999"),
        ),
        (Excused(problem(HOSTILE, "AC101", HOSTILE), HOSTILE, "in the spec"),),
        (Bound(HOSTILE, HOSTILE, "parameters", 2, 1), Bound(HOSTILE, f"1{HOSTILE}", HOSTILE, 2, 1)),
        Verdict(HOSTILE, (Check(HOSTILE, 1, 2, False, HOSTILE, HOSTILE),), HOSTILE, (HOSTILE,), (HOSTILE,), (HOSTILE,)),
    )
]  # fmt: skip
"""Text that means something to a format wherever text may be."""

GOOD = [Outcome("specs/tiny.yaml", "model", "tiny", verdict=Verdict("tiny", ()))]


def many(files):
    """So many files: of each ten one has a warning and one an error, and all have a figure and a budget."""
    for n in range(files):
        file = f"specs/{n // 100}/{n}.yaml"
        parts = {"path": "layers.0.attention", "line": 10, "column": 16}
        found = (problem(file, "AC102" if n % 10 else "AC101", f"size {n}", **parts),) if n % 10 < 2 else ()
        bound = Bound("parameters.stored", "1.6B", "parameters", 10**9 + n, 1_600_000_000)
        figure = Check("parameters 1.0B", 10**9 + n, 10**9, True, "holds to 2 digits", "a paper")
        yield Outcome(file, "model", f"m{n}", found, bounds=(bound,), verdict=Verdict(f"m{n}", (figure,)))
