"""The model at work."""

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.catalogue import find
from archcalc.commands.base import RUN, Attention, Batch, Form, Output, Seq, Spec, app, number
from archcalc.output import emit


@app.command(rich_help_panel=RUN)
def trace(
    spec: Spec,
    batch: Batch = "1",
    seq: Seq = None,
    attention: Attention = "math",
    form: Form = None,
    output: Output = None,
) -> None:
    """The way of the data: its shape at each step, the matrices met, the running total of weights."""
    from archcalc.report.trace import trace_sheet
    from archcalc.run import Run

    found = find(spec)
    most = found.model.context_length
    sequence = most if seq is None else number("--seq", seq, most)
    run = Run("prefill", number("--batch", batch, LARGEST_SIZE), sequence, attention=attention)
    emit(trace_sheet(found, run), form, output)
