"""The command predict: what comes next, the probability of a word, and the likely tokens at another temperature."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Annotated

import typer

from archcalc.commands.base import RUN, Form, Output, Spec, TokenizerOf, Weights, app, decoded, needs_to_run, number
from archcalc.commands.sampling import MinP, RepetitionPenalty, Temperature, TopK, TopP, real, settled, temperatures
from archcalc.commands.session import Given, Precision, Prompt, Session
from archcalc.errors import Invalid, Problem, shown
from archcalc.report.output import emit
from archcalc.spec.catalogue import find

if TYPE_CHECKING:
    from archcalc.report.wordchance import Form as WordForm
    from archcalc.report.wordchance import Word
    from archcalc_reference.model.sampling import Sampling

MOST_WORDS = 20  # each takes one or two passes of the model
_TOP = "20"
_MOST_RETEMPERED = 3  # columns that a terminal of 80 has room for


@app.command(rich_help_panel=RUN)
def predict(
    spec: Spec,
    prompt: Prompt,
    weights: Weights = None,
    tokenizer: TokenizerOf = None,
    top: Annotated[str, typer.Option(metavar="N", help="number of likely tokens to show")] = _TOP,
    word: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", show_default=False, help="word of any number of tokens to score; may repeat"),
    ] = None,
    retemper: Annotated[
        list[str] | None,
        typer.Option(
            metavar="T[,T]", show_default=False, help="temperatures for the shown tokens alone: p^(1/T), normalized"
        ),
    ] = None,
    temperature: Temperature = "1",
    top_k: TopK = "0",
    top_p: TopP = "1",
    min_p: MinP = "0",
    repetition_penalty: RepetitionPenalty = "1",
    precision: Precision = "fp32",
    form: Form = None,
    output: Output = None,
) -> None:
    """Show the probabilities of the next token, or of a whole word.

    Example: archcalc predict gpt2 --weights DIR -p "The capital of France is"
    """
    needs_to_run("predict")
    from archcalc.report.prediction import prediction_sheet
    from archcalc.report.wordchance import words_sheet
    from archcalc_reference.model.generation import generate

    found = find(spec)
    sampling = settled(real("--temperature", temperature), top_k, top_p, min_p, repetition_penalty)
    most = number("--top", top, found.model.n_logits)
    heats = temperatures("--retemper", retemper or [], _MOST_RETEMPERED)
    asked = _words(word or [])
    _refuse_what_does_not_go_together(temperature, top, asked, heats)
    session = Session.load(found, weights, precision, tokenizer)
    given = session.read(prompt)
    never = len(session.nameless)
    if asked:
        words = [_scored(session, given, one, sampling) for one in asked]
        emit(words_sheet(found, given, words, sampling._asdict(), never=never), form, output)
        return
    step = next(generate(session.model, given.ids, 1, sampling, never=session.nameless))
    likely = session.likely(step, 0, most)
    left = int((step.probabilities_NV[0] > 0).sum())
    sheet = prediction_sheet(found, given, likely, sampling._asdict(), heats=heats, left=left, never=never)
    emit(sheet, form, output)


def _words(asked: list[str]) -> list[str]:
    """Each as it was typed. Raises Invalid where one is empty, or there are too many."""
    words = list(dict.fromkeys(decoded("--word", text.encode(errors="surrogateescape")) for text in asked))
    if "" in words:
        raise Invalid(Problem("--word", "is empty"))
    if len(words) > MOST_WORDS:
        raise Invalid(Problem("--word", f"can be given at most {MOST_WORDS} times", value=f"{len(words):,}"))
    return words


def _refuse_what_does_not_go_together(temperature: str, top: str, words: list[str], heats: list[float]) -> None:
    if words and top != _TOP:
        what = "cannot be combined with --word, which lists the tokens of words"
        raise Invalid(Problem("--top", what, value=shown(top)))
    if words and heats:
        raise Invalid(Problem("--retemper", "cannot be combined with --word; --temperature bears on words"))
    if heats and temperature != "1":
        raise Invalid(Problem("--temperature", "cannot be combined with --retemper", value=shown(temperature)))


def _scored(session: Session, given: Given, word: str, sampling: Sampling) -> Word:
    """A word in the forms in which it may follow the prompt, the likeliest first."""
    from archcalc.report.wordchance import Form, Word
    from archcalc_reference.model.scoring import probabilities

    forms: list[WordForm] = []
    for written, tokens in _forms(session, given, word):
        chances = probabilities(session.model, given.ids, tokens, sampling, never=session.nameless)
        forms.append(Form(written, tuple(map(session.token, tokens)), tuple(chances), prod(chances)))
    return Word(word, tuple(sorted(forms, key=lambda one: -one.probability)))


def _forms(session: Session, given: Given, word: str) -> list[tuple[str, list[int]]]:
    """A word with a blank before it and as it was typed, each with the tokens that follow the prompt's.

    Where the tokenizer makes a token of the prompt's end and the word's beginning, the prompt's own tokens cannot be
    followed by that form, and it is left out. Raises Invalid where none is left, or one has no room in the context.
    """
    text, ids, begins = given
    spaced = text[-1].isspace() or word[0].isspace()
    found, most = [], session.found.model.context_length
    for written in [word] if spaced else [f" {word}", word]:
        whole = [*ids[: len(begins)], *session.tokenizer.encode(text + written)]
        if whole[: len(ids)] != ids or len(whole) == len(ids):
            continue
        if len(whole) > most:
            what = f"takes {len(whole) - len(ids):,} tokens after the {len(ids):,} of the prompt"
            raise Invalid(Problem("--word", f"{what}; the context holds {most:,}", value=shown(word)))
        found.append((written, whole[len(ids) :]))
    if not found:
        fix = "end the prompt without a blank" if text[-1].isspace() else None
        what = "is joined with the end of the prompt by the tokenizer"
        raise Invalid(Problem("--word", what, value=shown(word), suggestion=fix))
    return found
