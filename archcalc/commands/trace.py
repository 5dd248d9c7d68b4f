"""The command trace: shapes by the count, or vectors of a running model."""

from __future__ import annotations

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
from archcalc.commands.groups import Text, read_groups
from archcalc.commands.session import Given, Session
from archcalc.commands.weights import has_numbers
from archcalc.errors import Invalid, Problem, shown
from archcalc.report.output import emit
from archcalc.spec.catalogue import Found, find
from archcalc.words.occurrences import last_occurrence

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
            help="text to run the model on, or - for standard input; two with --word",
        ),
    ] = None,
    weights: Weights = None,
    tokenizer: TokenizerOf = None,
    word: Annotated[
        str | None,
        typer.Option(
            metavar="WORD", show_default=False, help="word whose vectors in several texts are compared, layer by layer"
        ),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TEXT",
            show_default=False,
            help="text with one sense of the --word, or NAME=@FILE with one a line; may repeat",
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
    if group:
        _refuse_beside_groups(word, prompt)
        _refuse_what_a_prompt_decides(batch, seq, attention, "--group")
        texts = read_groups(group)
        _refuse_many_layers(found, "--group")
        needs_to_run("trace")
        session = Session.load(found, weights, tokenizer=tokenizer)
        emit(_senses(found, word or "", texts, session), form, output)
        return
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
        fix = "give --group NAME=TEXT for more of them" if word is not None and len(prompt) > 2 else None
        raise Invalid(Problem("--prompt", takes, value=f"{len(prompt)}", suggestion=fix))
    _refuse_many_layers(found, "--prompt")
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
    given = session.read(prompt, to_come=0)
    device = session.model.embedding.token.weight.device
    calls, logits = watch(session.model, torch.tensor([given.ids], device=device))
    likely = []
    if session.has_numbers:
        _refuse_no_numbers([(call.module, one) for call in calls for one in (call.first_length, call.mean_length)])
        last = masked(logits[:, -1], session.nameless)
        likely = session.likely(Step(len(given.ids), [], last, distribution(last, Sampling())), 0, _NEXT)
    tokens = [session.token(token) for token in given.ids]
    by = session.tokenizer.name
    return journey_sheet(found, given.text, tokens, calls, likely, begins=given.begins, tokenizer=by)


def _drift(found: Found, word: str, prompts: list[str], session: Session) -> Sheet:
    from archcalc.report.drift import drift_sheet

    first, second = (_reading(session, word, session.read(prompt, to_come=0)) for prompt in prompts)
    return drift_sheet(found, word, (first, second))


def _senses(found: Found, word: str, texts: list[Text], session: Session) -> Sheet:
    from archcalc.report.senses import Grouped, senses_sheet

    cut = [session.cut(text.text, to_come=0, where=text.where) for text in texts]
    readings = [_reading(session, word, given, text.where) for text, given in zip(texts, cut, strict=True)]
    return senses_sheet(found, word, [Grouped(text.group, one) for text, one in zip(texts, readings, strict=True)])


def _reading(session: Session, word: str, given: Given, where: str = "") -> Reading:
    """A word's last token in a text, which has seen the whole word, and the way of its vector.

    Raises Invalid where the text, which was given at `where`, does not have the word.
    """
    from archcalc.report.drift import Reading
    from archcalc_reference.model.journey import vector_along

    place = last_occurrence(session.parts(given), word)
    if place is None:
        what = f"is not in {where or 'the prompt'}" if word else "is empty"
        raise Invalid(Problem("--word", what, value=shown(word)))
    way = vector_along(session.model, given.ids, place.position)
    _refuse_no_numbers([(along.place, float(along.vector_D.norm())) for along in way])
    token = session.token(given.ids[place.position])
    return Reading(given.text, len(given.ids), place, token, way, given.begins)


def _refuse_no_numbers(lengths: list[tuple[str, float | None]]) -> None:
    """Raise Invalid, with the first place, where a vector on the way is NaN or infinite."""
    for place, length in lengths:
        if length is not None and not isfinite(length):
            what = f"give a vector that is not finite after {place}"
            raise Invalid(Problem("weights", what, suggestion="they are damaged, or too large for the precision"))


def _refuse_many_layers(found: Found, flag: str) -> None:
    if found.model.n_layers > MOST_LAYERS_WATCHED:
        what = f"runs through at most {MOST_LAYERS_WATCHED} layers; {found.name} has {found.model.n_layers:,}"
        raise Invalid(Problem(flag, what, suggestion=f"trace {found.model.name}@n_layers={MOST_LAYERS_WATCHED}"))


def _refuse_beside_groups(word: str | None, prompt: list[str] | None) -> None:
    if prompt is not None:
        raise Invalid(Problem("--prompt", "cannot be combined with --group, which has the texts"))
    if not word:
        what = "is empty" if word == "" else "must say which word the texts of --group share"
        raise Invalid(Problem("--word", what))


def _refuse_without_prompt(word: str | None, weights: str | None, tokenizer: str | None) -> None:
    for flag, value in (("--word", word), ("--weights", weights), ("--tokenizer", tokenizer)):
        if value is not None:
            raise Invalid(Problem(flag, "needs a --prompt", value=shown(value)))


def _refuse_what_a_prompt_decides(batch: str, seq: str | None, attention: str, flag: str = "--prompt") -> None:
    if seq is not None:
        raise Invalid(Problem("--seq", f"cannot be combined with {flag}, whose length is used", value=shown(seq)))
    if batch.strip() != "1":
        raise Invalid(Problem("--batch", f"must be 1 with {flag}", value=shown(batch)))
    if attention != "math":
        what = f"must be math with {flag}: flash stores no scores"
        raise Invalid(Problem("--attention", what, value=shown(attention)))
