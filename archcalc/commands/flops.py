"""The command flops."""

from archcalc.commands.base import COUNT, AnyBatch, Attention, Form, Output, Seq, Spec, app, number
from archcalc.commands.duration import MOST_DEVICES, DeviceOf, Devices, Mfu, PeakIn, PriceOf, read_by, time_of
from archcalc.commands.flags import Again, Context, LogitsOf, Pairs, Phases, Tokens, work_run
from archcalc.commands.planning import Planned, takes_plan
from archcalc.errors import Invalid, Problem, shown
from archcalc.report.output import emit
from archcalc.spec.catalogue import find
from archcalc.tape.precision import Recompute


@app.command(rich_help_panel=COUNT)
@takes_plan
def flops(
    spec: Spec,
    phase: Phases = "training",
    batch: AnyBatch = None,
    seq: Seq = None,
    context: Context = None,
    logits: LogitsOf = None,
    causal: Pairs = "full",
    attention: Attention = "math",
    tokens: Tokens = None,
    recompute: Again = None,
    device: DeviceOf = None,
    devices: Devices = "1",
    mfu: Mfu = None,
    precision: PeakIn = None,
    price: PriceOf = None,
    form: Form = None,
    output: Output = None,
    plan: Planned | None = None,
) -> None:
    """Count FLOPs; estimate time and cost on devices.

    With a plan, by name or by flags such as --tp 8 --pp 8, those of a rank of each stage in a step, and how long
    stages wait for each other; --batch is that of a step over all ranks, and each rank is a device.

    Example: archcalc flops gpt2-xl --tokens 10B --device a100-80gb --mfu 40%
    """
    from archcalc.counts.executed import executed
    from archcalc.report.flops import flops_sheet

    again: Recompute = recompute or (plan and plan.plan.recompute) or "none"
    if again != "none" and phase != "training":
        raise Invalid(Problem("--recompute", "applies only to training", suggestion="use --phase training"))
    found = find(spec)
    each = "1" if plan or batch is None else batch
    run, amount = work_run(found.model, phase, each, seq, context, logits, causal, attention, tokens)
    if plan is not None:
        from archcalc.counts.worked import worked
        from archcalc.report.worked import workers_sheet

        counted = worked(found.model, plan.of(run, batch), run, again, plan.where)
        if device is not None and phase != "training":
            what = "times training alone under a plan: in inference stages take turns"
            raise Invalid(Problem("--device", what, suggestion="use --phase training"))
        time = time_of(
            counted.executed,
            counted.tokens,
            amount,
            device=device,
            devices=devices if device is None else _ranks(devices, counted.plan.world),
            mfu=mfu,
            precision=precision,
            price=price,
            longest=counted.longest,
        )
        emit(workers_sheet(found, counted, again, amount, time), form, output)
        return
    work = executed(found.model, run, again)
    size = run.batch * run.positions
    taken = time_of(work, size, amount, device=device, devices=devices, mfu=mfu, precision=precision, price=price)
    read = None
    if taken is not None and device is not None and phase != "training":
        read = read_by(found.model, run, taken, device)
    emit(flops_sheet(found, run, amount, again, work, taken, read), form, output)


def _ranks(devices: str, world: int) -> int:
    """The devices of a plan, which are its ranks. Raises Invalid for another number."""
    if devices.strip() != "1" and number("--devices", devices, MOST_DEVICES, count=True) != world:
        raise Invalid(Problem("--devices", f"must be the ranks of the plan ({world:,})", value=shown(devices)))
    return world
