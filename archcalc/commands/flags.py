"""The flags of FLOPs and memory, and the runs that they describe; what cannot be is refused in one line."""

from collections.abc import Iterable
from typing import Annotated, get_args

import typer

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.commands.base import number
from archcalc.counts import asked
from archcalc.errors import Invalid, Problem, shown
from archcalc.plan.description import Plan
from archcalc.plan.recipes import keeping_of
from archcalc.spec.model import Model
from archcalc.tape.optimizers import Optimizer
from archcalc.tape.precision import (
    BITS,
    DEFAULTS,
    RECIPES,
    CachePrecision,
    Keeping,
    Precision,
    Purpose,
    Recompute,
    refuse_other_purpose,
)
from archcalc.tape.run import ALL_LOGITS, ALL_PAIRS, ActivationKernel, AttentionKernel, Causal, Logits, Phase, Run


def _listed(choices: Iterable[str], default: str) -> str:
    """The choices of a flag, the default first."""
    return ", ".join([f"{default} (default)", *(one for one in choices if one != default)])


Phases = Annotated[
    Phase,
    typer.Option(metavar="PHASE", show_default=False, help="pass to count: training (default), prefill, decode"),
]
Context = Annotated[
    str | None,
    typer.Option(metavar="T", show_default=False, help="positions read by decode; default: the context"),
]
LogitsOf = Annotated[
    Logits | None,
    typer.Option("--logits", metavar="WHICH", show_default=False, help="positions with logits: all (default) or last"),
]
Pairs = Annotated[
    Causal,
    typer.Option(metavar="PAIRS", show_default=False, help="query-key pairs: full (default), half or exact"),
]
Tokens = Annotated[
    str | None,
    typer.Option(metavar="N", show_default=False, help="tokens of a whole training run, such as 10B"),
]
For = Annotated[
    Purpose,
    typer.Option("--for", metavar="WHAT", show_default=False, help="purpose: training (default) or inference"),
]
PrecisionOf = Annotated[
    Precision | None,
    typer.Option(
        "--precision",
        metavar="TYPE",
        show_default=False,
        help=f"number format: training {_listed(RECIPES, DEFAULTS['training'])}; "
        f"inference {_listed(BITS, DEFAULTS['inference'])}, `list formats`",
    ),
]
OptimizerOf = Annotated[
    Optimizer | None,
    typer.Option(
        "--optimizer",
        metavar="NAME",
        show_default=False,
        help=f"optimizer: {_listed(get_args(Optimizer), 'adamw-fused')}",
    ),
]
Again = Annotated[
    Recompute | None,
    typer.Option(
        "--recompute",
        metavar="WHAT",
        show_default=False,
        help="recomputed in backward: none (default), selective (attention core) or full (layers)",
    ),
]
Accumulate = Annotated[bool, typer.Option("--accumulate", help="keep gradients between micro-batches")]
ActivationOf = Annotated[
    ActivationKernel,
    typer.Option(
        "--activation-kernel",
        metavar="KIND",
        show_default=False,
        help="activation function: fused (default) or eager",
    ),
]
Dropout = Annotated[bool, typer.Option("--dropout", help="train with dropout, whose masks are saved")]
CacheOf = Annotated[
    CachePrecision | None,
    typer.Option(
        "--kv-precision",
        metavar="TYPE",
        show_default=False,
        help=f"number format of the KV cache: {', '.join(get_args(CachePrecision))}; default: as activations",
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
        raise Invalid(
            Problem(
                "--seq",
                "does not apply to decode, which adds one position to each sequence",
                suggestion="use --context",
            )
        )
    if phase != "decode" and context is not None:
        raise Invalid(Problem("--context", f"applies only to decode, not to {phase}", suggestion="use --seq"))
    if phase == "training" and logits == "last":
        raise Invalid(Problem("--logits", ALL_LOGITS, value=shown(logits)))
    if phase == "decode" and logits is not None:
        raise Invalid(Problem("--logits", "does not apply to decode, which computes the logits of one position"))
    if phase == "decode" and causal != "full":
        raise Invalid(Problem("--causal", ALL_PAIRS, value=shown(causal)))
    if phase != "training" and tokens is not None:
        raise Invalid(Problem("--tokens", "applies only to training", suggestion="use --phase training"))
    run = asked.work_run(
        phase,
        number("--batch", batch, LARGEST_SIZE),
        most,
        sequence=None if seq is None else number("--seq", seq, most),
        context=None if context is None else number("--context", context, most),
        attention=attention,
        causal=causal,
        logits=logits,
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
    most = model.context_length
    return asked.held_run(
        purpose,
        number("--batch", batch, LARGEST_SIZE),
        most if seq is None else number("--seq", seq, most),
        attention=attention,
        dropout=dropout,
        activation=_kernel_of(model, activation),
    )


def keeping(
    purpose: Purpose,
    precision: Precision | None,
    optimizer: Optimizer | None,
    recompute: Recompute | None,
    kv_precision: CachePrecision | None,
    *,
    accumulate: bool,
    dropout: bool,
    plan: Plan | None = None,
) -> Keeping:
    """How that run keeps its numbers: by flags, or else by its plan.

    Raises Invalid for a flag of training with inference, or the reverse.
    """
    if dropout and purpose == "inference":
        raise Invalid(Problem("--dropout", "applies only to training", suggestion="use --for training"))
    kept = keeping_of(
        plan,
        purpose,
        precision=precision,
        optimizer=optimizer,
        recompute=recompute,
        kv_precision=kv_precision,
        accumulate=accumulate,
    )
    refuse_other_purpose(purpose, kept, flags=True)
    return kept


def _kernel_of(model: Model, activation: ActivationKernel) -> ActivationKernel:
    """The kernel of the activations. Raises Invalid where the model has none that can be run op by op."""
    if activation == "eager":
        from archcalc.counts.memory import NOT_OP_BY_OP, runs_op_by_op

        if runs_op_by_op(model):
            return activation
        raise Invalid(Problem("--activation-kernel", NOT_OP_BY_OP, model.name, value=shown(activation)))
    return activation
