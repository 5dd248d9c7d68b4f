"""The command flops."""

from archcalc.commands.base import COUNT, Attention, Batch, Form, Output, Seq, Spec, app
from archcalc.commands.duration import DeviceOf, Devices, Mfu, PeakIn, PriceOf, read_by, time_of
from archcalc.commands.flags import Again, Context, LogitsOf, Pairs, Phases, Tokens, work_run
from archcalc.errors import Invalid, Problem
from archcalc.report.output import emit
from archcalc.spec.catalogue import find


@app.command(rich_help_panel=COUNT)
def flops(
    spec: Spec,
    phase: Phases = "training",
    batch: Batch = "1",
    seq: Seq = None,
    context: Context = None,
    logits: LogitsOf = None,
    causal: Pairs = "full",
    attention: Attention = "math",
    tokens: Tokens = None,
    recompute: Again = "none",
    device: DeviceOf = None,
    devices: Devices = "1",
    mfu: Mfu = None,
    precision: PeakIn = None,
    price: PriceOf = None,
    form: Form = None,
    output: Output = None,
) -> None:
    """Count FLOPs; estimate time and cost on devices.

    Example: archcalc flops gpt2-xl --tokens 10B --device a100-80gb --mfu 40%
    """
    from archcalc.counts.executed import executed
    from archcalc.report.flops import flops_sheet

    if recompute != "none" and phase != "training":
        raise Invalid(Problem("--recompute", "applies only to training", suggestion="use --phase training"))
    found = find(spec)
    run, amount = work_run(found.model, phase, batch, seq, context, logits, causal, attention, tokens)
    work = executed(found.model, run, recompute)
    size = run.batch * run.positions
    taken = time_of(work, size, amount, device=device, devices=devices, mfu=mfu, precision=precision, price=price)
    read = None
    if taken is not None and device is not None and phase != "training":
        read = read_by(found.model, run, taken, device)
    emit(flops_sheet(found, run, amount, recompute, work, taken, read), form, output)
