"""The command chat: turns typed at a terminal, or read from the lines of standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.commands.base import (
    LONGEST_TEXT,
    RUN,
    Spec,
    TokenizerOf,
    Weights,
    app,
    decoded,
    needs_to_run,
    number,
    read_text,
)
from archcalc.commands.sampling import (
    LARGEST_SEED,
    MinP,
    RepetitionPenalty,
    Seed,
    Temperature,
    TopK,
    TopP,
    real,
    settled,
)
from archcalc.commands.session import Precision, Session
from archcalc.errors import Invalid, Missing, Problem
from archcalc.report.output import tell, write
from archcalc.spec.catalogue import find
from archcalc.spec.source import STDIN
from archcalc.units import several

if TYPE_CHECKING:
    from archcalc_reference.model.sampling import Sampling
    from archcalc_reference.text.talk import Talk, Turn

_USER = "User: "
_SYSTEM_SHARE = 4  # of the context, a quarter, that the system prompt may take where none is said
MOST_LINES = 10_000  # of standard input
_ROOM = 4  # and as much is kept for an answer, or --max-tokens where that is less


@app.command(rich_help_panel=RUN)
def chat(
    spec: Spec,
    weights: Weights = None,
    tokenizer: TokenizerOf = None,
    system: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            show_default=False,
            help="system prompt; '' for none; default: none with a chat template, else a short sentence",
        ),
    ] = None,
    max_tokens: Annotated[str, typer.Option(metavar="N", help="most tokens of each answer")] = "200",
    temperature: Temperature = "1",
    top_k: TopK = "0",
    top_p: TopP = "1",
    min_p: MinP = "0",
    repetition_penalty: RepetitionPenalty = "1",
    seed: Seed = "0",
    precision: Precision = "fp32",
) -> None:
    """Chat with a model, in a terminal or by standard input.

    The checkpoint's chat template is used; a model without one continues a dialogue of User and AI Assistant.
    """
    needs_to_run("chat")
    found = find(spec)
    tokens = number("--max-tokens", max_tokens, LARGEST_SIZE)
    sampling = settled(real("--temperature", temperature), top_k, top_p, min_p, repetition_penalty, seed)
    session = Session.load(found, weights, precision, tokenizer)
    session.tell_settings(sampling)
    talk = _begun(session, None if system is None else read_text("--system", system))
    terminal = sys.stdin is not None and sys.stdin.isatty()
    turns = 0
    for text in _typed() if terminal else _piped():
        try:
            _turn(session, talk, text, tokens, sampling._replace(seed=(sampling.seed + turns) % LARGEST_SEED))
            turns += 1
        except Invalid as error:
            if not terminal:
                raise
            tell(str(error))  # and the conversation goes on
        except KeyboardInterrupt:
            if not terminal:
                raise
            tell("")  # the part of the answer so far remains
    tell(f"{several(turns, 'turn')}; {session.cache_said(talk.cache)}")


def _begun(session: Session, system: str | None) -> Talk:
    """A conversation with its system prompt. Raises Invalid where that leaves no room in the context."""
    from archcalc_reference.text.talk import Talk
    from archcalc_reference.text.template import SYSTEM, read_first

    template = read_first(session.places)
    most = session.found.model.context_length
    if system is None:
        system = SYSTEM if template.name == "plain" else ""
        took = len(session.tokenizer.encode(system))
        if took * _SYSTEM_SHARE > most:
            tell(f"no system prompt: the default one has {took:,} tokens, and the context holds {most:,}")
            system = ""
    talk = Talk(session.model, session.tokenizer, template, system=system, ends=session.ends, never=session.nameless)
    if system and len(session.tokenizer.encode(system)) >= most:
        what = (
            f"has {len(session.tokenizer.encode(system)):,} tokens; the context holds {most:,}, which leaves no room"
        )
        raise Invalid(Problem("--system", what))
    how = "as a plain dialogue" if template.name == "plain" else f"with the template of {template.name}"
    tell(f"{session.found.name}: conversation {how}, up to {most:,} tokens")
    return talk


def _turn(session: Session, talk: Talk, text: str, tokens: int, sampling: Sampling) -> None:
    """One turn: the message, the answer, and the tokens of both."""
    from archcalc.report.live import Console

    most = session.found.model.context_length
    heard = talk.hear(text, min(tokens, max(most // _ROOM, 1)))
    if heard.gone:
        tell(
            f"the context is full: dropped the oldest {several(heard.gone, 'message')} "
            f"({several(heard.gone_tokens, 'token')}) after the system prompt"
        )
    label = "AI Assistant:" if talk.template.name == "plain" else "Assistant: "
    console = Console(session, label, 1, None, talk.template.stop, "", answers=label.endswith(" "))
    drawn = 0
    answer = talk.answer(tokens, sampling)
    try:
        for step in answer:
            drawn += 1
            if not console.take(step):
                break
    finally:
        answer.close()
        console.close()
        talk.answered(console.texts[0].strip())
    tell(_took(heard, drawn, most - talk.taken))


def _took(heard: Turn, drawn: int, left: int) -> str:
    new, room = several(heard.tokens - heard.held, "new token"), several(left, "token")
    return f"[{new} read after {heard.held:,} in the cache; {drawn:,} generated; room for {room}]"


def _typed() -> Iterator[str]:
    """Lines from a terminal, until its end."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (it gives `input` its arrows)
    while True:
        try:
            line = input(_USER)
        except EOFError:
            write("\n", None)
            return
        if line.strip():
            yield line


def _piped() -> Iterator[str]:
    """Lines of standard input, each shown as it is said."""
    if sys.stdin is None:
        raise Missing(Problem(STDIN, "is closed"))
    said, count = False, 0
    while line := sys.stdin.buffer.readline(LONGEST_TEXT + 1):
        count += 1
        if count > MOST_LINES:
            raise Invalid(Problem(STDIN, f"has more than {MOST_LINES:,} lines, the most that are read as turns"))
        if len(line) > LONGEST_TEXT:
            raise Invalid(Problem(STDIN, f"has a line longer than {LONGEST_TEXT:,} bytes"))
        text = decoded(STDIN, line, count).strip()
        if text:
            said = True
            write(f"{_USER}{text}\n", None)
            yield text
    if not said:
        raise Invalid(Problem(STDIN, "is empty; each line is one turn"))
