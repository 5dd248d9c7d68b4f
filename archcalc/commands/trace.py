"""The command trace: shapes by the count, or vectors of a running model."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate
from math import isfinite
from typing import TYPE_CHECKING, Annotated

import typer

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.commands.base import (
    RUN,
    Attention,
    Batch,
    Form,
    Output,
    Seq,
    Spec,
    TokenizerOf,
    Weights,
    app,
    needs_to_run,
    number,
)
from archcalc.commands.session import Session
from archcalc.commands.weights import has_numbers
from archcalc.errors import Invalid, Problem, shown
from archcalc.report.output import emit
from archcalc.spec.catalogue import Found, find

if TYPE_CHECKING:
    from archcalc.report.drift import Reading
    from archcalc.report.sheet import Sheet

MOST_LAYERS_WATCHED = 200  # a few seconds
_NEXT = 5  # likely tokens at the end of a journey


@app.command(rich_help_panel=RUN)
def trace(
    spec: Spec,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            "-p",
            metavar="TEXT",
            show_default=False,
            help="text to run the model on, or - for standard input; give two with --word",
        ),
    ] = None,
    weights: Weights = None,
    tokenizer: TokenizerOf = None,
    word: Annotated[
        str | None,
        typer.Option(
            metavar="WORD", show_default=False, help="word whose vectors in two prompts are compared, layer by layer"
        ),
    ] = None,
    batch: Batch = "1",
    seq: Seq = None,
    attention: Attention = "math",
    form: Form = None,
    output: Output = None,
) -> None:
    """Follow data through the layers: shapes, vectors, attention.

    Without --prompt: shapes and matrices of a forward pass. With --prompt the model runs, and with weights it shows
    what attention and MLPs do to the vectors, and the likely next tokens.

    Example: archcalc trace gpt2 --weights DIR -p "The cat sat on the"
    """
    found = find(spec)
    if prompt is None:
        _refuse_without_prompt(word, weights, tokenizer)
        from archcalc.report.trace import trace_sheet
        from archcalc.tape.run import Run

        most = found.model.context_length
        sequence = most if seq is None else number("--seq", seq, most)
        run = Run("prefill", number("--batch", batch, LARGEST_SIZE), sequence, attention=attention)
        emit(trace_sheet(found, run), form, output)
        return
    _refuse_what_a_prompt_decides(batch, seq, attention)
    if len(prompt) != (1 if word is None else 2):
        takes = "must be given once; --word compares two" if word is None else "must be given twice with --word"
        raise Invalid(Problem("--prompt", takes, value=f"{len(prompt)}"))
    if found.model.n_layers > MOST_LAYERS_WATCHED:
        what = f"runs through at most {MOST_LAYERS_WATCHED} layers; {found.name} has {found.model.n_layers:,}"
        raise Invalid(Problem("--prompt", what, suggestion=f"trace {found.model.name}@n_layers={MOST_LAYERS_WATCHED}"))
    needs_to_run("trace")
    if word is None:
        emit(_journey(found, prompt[0], weights, tokenizer), form, output)
    else:
        emit(_drift(found, word, prompt, Session.load(found, weights, tokenizer=tokenizer)), form, output)


def _journey(found: Found, prompt: str, weights: str | None, tokenizer: str | None) -> Sheet:
    import torch

    from archcalc.report.journey import journey_sheet
    from archcalc_reference.model.generation import Step
    from archcalc_reference.model.journey import watch
    from archcalc_reference.model.sampling import Sampling, distribution, masked

    shapes = weights is None and not (found.folder and has_numbers(found.folder))
    session = Session.of_shapes(found, tokenizer) if shapes else Session.load(found, weights, tokenizer=tokenizer)
    text, ids = session.read(prompt, to_come=0)
    device = session.model.embedding.token.weight.device
    calls, logits = watch(session.model, torch.tensor([ids], device=device))
    likely = []
    if session.has_numbers:
        _refuse_no_numbers([(call.module, call.mean_length) for call in calls])
        last = masked(logits[:, -1], session.nameless)
        likely = session.likely(Step(len(ids), [], last, distribution(last, Sampling())), 0, _NEXT)
    return journey_sheet(found, text, [session.token(token) for token in ids], calls, likely)


def _drift(found: Found, word: str, prompts: list[str], session: Session) -> Sheet:
    from archcalc.report.drift import drift_sheet

    first, second = (_reading(session, word, prompt) for prompt in prompts)
    return drift_sheet(found, word, (first, second))


def _reading(session: Session, word: str, prompt: str) -> Reading:
    """A word's last token in a prompt, which has seen the whole word, and the way of its vector."""
    from archcalc.report.drift import Reading
    from archcalc_reference.model.journey import vector_along

    text, ids = session.read(prompt, to_come=0)
    position = _place(session, word, ids)
    way = vector_along(session.model, ids, position)
    _refuse_no_numbers([(along.place, float(along.vector_D.norm())) for along in way])
    return Reading(text, len(ids), position, session.token(ids[position]), way)


def _refuse_no_numbers(lengths: list[tuple[str, float | None]]) -> None:
    """Raise Invalid, with the first place, where a vector on the way is NaN or infinite."""
    for place, length in lengths:
        if length is not None and not isfinite(length):
            what = f"give a vector that is not finite after {place}"
            raise Invalid(Problem("weights", what, suggestion="they are damaged, or too large for the precision"))


def _place(session: Session, word: str, ids: list[int]) -> int:
    """The position of the token that ends the last occurrence of a word, a whole word before a part of another."""
    parts = [session.tokenizer.token_bytes(token) for token in ids]
    text = b"".join(parts).decode(errors="replace")
    alone = [match.end() for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text)]
    at = text.rfind(word) if word else -1
    if at < 0:
        raise Invalid(Problem("--word", "is not in the prompt" if word else "is empty", value=shown(word)))
    last = len(text[: alone[-1] if alone else at + len(word)].encode()) - 1  # the byte where it ends
    return bisect_right(list(accumulate(map(len, parts))), last)


def _refuse_without_prompt(word: str | None, weights: str | None, tokenizer: str | None) -> None:
    for flag, value in (("--word", word), ("--weights", weights), ("--tokenizer", tokenizer)):
        if value is not None:
            raise Invalid(Problem(flag, "needs a --prompt", value=shown(value)))


def _refuse_what_a_prompt_decides(batch: str, seq: str | None, attention: str) -> None:
    if seq is not None:
        raise Invalid(Problem("--seq", "cannot be combined with --prompt, whose length is used", value=shown(seq)))
    if batch.strip() != "1":
        raise Invalid(Problem("--batch", "must be 1 with --prompt", value=shown(batch)))
    if attention != "math":
        raise Invalid(
            Problem("--attention", "must be math with --prompt: flash stores no scores", value=shown(attention))
        )
