"""The command of a training under a plan: exit codes, and one line where something is wrong.

Exit codes are archcalc's: 0 done; 2 the question cannot be understood; 3 something is missing; 130 interrupted; 70 an
internal error, such as that of a rank whose peer is gone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from archcalc.errors import ArchcalcError, Invalid, Problem, cut
from archcalc.packages import needed
from archcalc.plan.description import Plan
from archcalc_reference.parallel.applying import refuse_unrun
from archcalc_reference.parallel.asking import PROGRAM, Asked, read
from archcalc_reference.parallel.place import Ended, place, tell

_LONGEST_CAUSE = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the arguments say, as one of torchrun's processes or alone; the exit code."""
    rank, size = place()
    try:
        asked = read(arguments)
        refuse_unrun(asked.plan, tensors=True)
        _refuse_other_ranks(asked.plan, size)
        for package in ("torch", "safetensors"):
            needed(package, PROGRAM)
        _train(asked)
    except ArchcalcError as error:  # the same on all ranks
        if rank == 0:
            tell(str(error))
        return error.exit_code
    except Ended as ended:
        return ended.code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("ARCHCALC_DEBUG") == "1":
            raise
        cause = cut(str(error).partition("\n")[0], _LONGEST_CAUSE)
        fix = "if another rank ended first, its line says why; ARCHCALC_DEBUG=1 shows the traceback"
        tell(str(Problem(PROGRAM, f"rank {rank}: {type(error).__name__}: {cause}", suggestion=fix)))
        return 70
    return 0


def _train(asked: Asked) -> None:
    from archcalc_reference.parallel.running import run
    from archcalc_reference.parallel.world import joined

    with joined(asked.device) as world:
        run(asked, world)


def _refuse_other_ranks(plan: Plan, size: int) -> None:
    if plan.world != size:
        degrees = " x ".join(f"{axis} {n}" for axis in ("dp", "cp", "tp", "pp") if (n := getattr(plan, axis)) > 1)
        started = "1 process was started" if size == 1 else f"torchrun started {size:,}"
        what = f"has {plan.world:,} ranks ({degrees or 'nothing is divided'}); {started}"
        fix = f"torchrun --nproc-per-node {plan.world} -m archcalc_reference.train"
        raise Invalid(Problem(plan.name, what, suggestion=fix if plan.world > 1 else "choose a plan, such as --dp 2"))
