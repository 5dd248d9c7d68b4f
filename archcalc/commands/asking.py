"""What the flags of FLOPs and of memory ask for: the runs that they describe, or one line that says what cannot be."""

from typing import Annotated, get_args

import typer

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.commands.base import number
from archcalc.errors import Invalid, Problem, shown
from archcalc.precision import (
    BITS,
    DEFAULTS,
    RECIPES,
    CachePrecision,
    Keeping,
    Optimizer,
    Precision,
    Purpose,
    Recompute,
    refuse_other_purpose,
)
from archcalc.run import ALL_LOGITS, ALL_PAIRS, ActivationKernel, AttentionKernel, Causal, Logits, Phase, Run
from archcalc.spec import Model

Phases = Annotated[Phase, typer.Option(metavar="PHASE", help="pass to count: training, prefill or decode")]
Context = Annotated[
    str | None, typer.Option(metavar="T", show_default=False, help="positions that decode reads, its own included")
]
LogitsOf = Annotated[
    Logits | None,
    typer.Option("--logits", metavar="WHICH", show_default=False, help="logits of all positions, or of the last"),
]
Pairs = Annotated[Causal, typer.Option(metavar="PAIRS", help="pairs of positions that count: full, half or exact")]
Tokens = Annotated[
    str | None, typer.Option(metavar="N", show_default=False, help="tokens to train on (10B = 10,000,000,000)")
]
For = Annotated[Purpose, typer.Option("--for", metavar="WHAT", help="purpose: training or inference")]
PrecisionOf = Annotated[
    Precision | None,
    typer.Option(
        "--precision",
        metavar="TYPE",
        show_default=False,
        help=f"in training {', '.join(RECIPES)}; in inference {', '.join(BITS)}",
    ),
]
OptimizerOf = Annotated[
    Optimizer,
    typer.Option("--optimizer", metavar="NAME", help=f"optimizer of training: {', '.join(get_args(Optimizer))}"),
]
Again = Annotated[
    Recompute,
    typer.Option(
        "--recompute",
        metavar="WHAT",
        help="what backward computes again: none, selective (attention's core), full (layers)",
        show_default=False,
    ),
]
Accumulate = Annotated[bool, typer.Option("--accumulate", help="gradients stay between micro-batches")]
ActivationOf = Annotated[
    ActivationKernel,
    typer.Option(
        "--activation-kernel",
        metavar="KERNEL",
        help="GELU in one kernel (fused), or op by op as in transformers (eager)",
    ),
]
Dropout = Annotated[bool, typer.Option("--dropout", help="training with dropout, whose masks are kept")]
CacheOf = Annotated[
    CachePrecision | None,
    typer.Option(
        "--kv-precision",
        metavar="TYPE",
        show_default=False,
        help=f"cache of keys and values in {', '.join(get_args(CachePrecision))}",
    ),
]


def work_run(
    model: Model,
    phase: Phase,
    batch: str,
    seq: str | None,
    context: str | None,
    logits: Logits | None,
    causal: Causal,
    attention: AttentionKernel,
    tokens: str | None,
) -> tuple[Run, int | None]:
    """The run whose FLOPs are asked for, and the tokens of a whole training."""
    most = model.context_length
    if phase == "decode" and seq is not None:
        raise Invalid(Problem("--seq", "decode adds one position to each sequence", suggestion="say --context"))
    if phase != "decode" and context is not None:
        raise Invalid(
            Problem("--context", f"is what decode reads; {phase} reads what it is given", suggestion="say --seq")
        )
    if phase == "training" and logits == "last":
        raise Invalid(Problem("--logits", ALL_LOGITS, value=shown(logits)))
    if phase == "decode" and logits is not None:
        raise Invalid(Problem("--logits", "decode adds one position, whose logits are all there are"))
    if phase == "decode" and causal == "half":
        raise Invalid(Problem("--causal", ALL_PAIRS, value=shown(causal)))
    if phase != "training" and tokens is not None:
        raise Invalid(Problem("--tokens", "are trained on", suggestion="say --phase training"))
    read = most if context is None else number("--context", context, most)
    run = Run(
        phase,
        number("--batch", batch, LARGEST_SIZE),
        1 if phase == "decode" else most if seq is None else number("--seq", seq, most),
        read if phase == "decode" else None,
        attention=attention,
        causal=causal,
        logits=logits or "all",
    )
    return run, None if tokens is None else number("--tokens", tokens, 10**18, count=True)


def memory_run(
    model: Model,
    purpose: Purpose,
    batch: str,
    seq: str | None,
    attention: AttentionKernel,
    activation: ActivationKernel,
    *,
    dropout: bool,
) -> Run:
    """The run whose memory is asked for."""
    trains, most = purpose == "training", model.context_length
    return Run(
        "training" if trains else "prefill",
        number("--batch", batch, LARGEST_SIZE),
        most if seq is None else number("--seq", seq, most),
        attention=attention,
        dropout=dropout,
        activation=activation,
        logits="all" if trains else "last",
    )


def keeping(
    purpose: Purpose,
    precision: Precision | None,
    optimizer: Optimizer,
    recompute: Recompute,
    kv_precision: CachePrecision | None,
    *,
    accumulate: bool,
    dropout: bool,
) -> Keeping:
    """How that run keeps its numbers; what is of training is refused for inference, and the other way round."""
    if dropout and purpose == "inference":
        raise Invalid(Problem("--dropout", "is of training", suggestion="say --for training"))
    asked = Keeping(
        precision or DEFAULTS[purpose], optimizer, recompute, accumulate=accumulate, kv_precision=kv_precision
    )
    refuse_other_purpose(purpose, asked, flags=True)
    return asked
