"""The command generate: text from a prompt, as it is drawn."""

from typing import Annotated

import typer

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.commands.base import RUN, Spec, TokenizerOf, Weights, app, needs_to_run, number
from archcalc.commands.sampling import MinP, RepetitionPenalty, Seed, Temperature, TopK, TopP, real, settled
from archcalc.commands.session import Precision, Prompt, Session
from archcalc.errors import Invalid, Problem, shown
from archcalc.report.output import refuse_output, tell, write
from archcalc.spec.catalogue import find

Show = Annotated[
    str | None, typer.Option(metavar="K", show_default=False, help="show the K most likely tokens at each step")
]


@app.command(rich_help_panel=RUN)
def generate(
    spec: Spec,
    prompt: Prompt,
    weights: Weights = None,
    tokenizer: TokenizerOf = None,
    max_tokens: Annotated[
        str, typer.Option(metavar="N", help="most tokens to generate; fewer where the context ends")
    ] = "100",
    temperature: Temperature = "1",
    top_k: TopK = "0",
    top_p: TopP = "1",
    min_p: MinP = "0",
    repetition_penalty: RepetitionPenalty = "1",
    seed: Seed = "0",
    samples: Annotated[str, typer.Option(metavar="N", help="number of continuations, generated as one batch")] = "1",
    stop: Annotated[
        str | None,
        typer.Option(metavar="TEXT", show_default=False, help="text that ends a continuation; not printed"),
    ] = None,
    show: Show = None,
    compare_temperatures: Annotated[
        str | None,
        typer.Option(
            metavar="T,T,...",
            show_default=False,
            help="temperatures to compare: one continuation each, from the same seed",
        ),
    ] = None,
    trace: Annotated[
        str | None, typer.Option(metavar="FILE", show_default=False, help="file for one JSON line per token")
    ] = None,
    precision: Precision = "fp32",
) -> None:
    """Generate text from a prompt, at one or more temperatures.

    Example: archcalc generate run -p "Once" --compare-temperatures 0.5,1,1.5
    """
    needs_to_run("generate")
    from archcalc.report.live import Console

    found = find(spec)
    model = found.model
    heats = [real("--temperature", temperature)]
    if compare_temperatures is not None:
        if temperature != "1":
            raise Invalid(
                Problem("--temperature", "cannot be combined with --compare-temperatures", value=shown(temperature))
            )
        heats = [real("--compare-temperatures", part) for part in compare_temperatures.split(",")]
    if stop == "":
        raise Invalid(Problem("--stop", "is empty"))
    sampling = settled(heats[0], top_k, top_p, min_p, repetition_penalty, seed)
    many = number("--samples", samples, 1_000)
    tokens = number("--max-tokens", max_tokens, LARGEST_SIZE)
    shown_tokens = None if show is None else number("--show", show, model.n_logits)
    if trace is not None:
        refuse_output(trace)
    session = Session.load(found, weights, precision, tokenizer)
    given = session.read(prompt)
    session.tell_begin(given)
    session.tell_settings(sampling)
    lines: list[str] = []
    try:
        for heat in heats:
            title = f"temperature {heat:g}" if len(heats) > 1 else ""
            continuation = session.continuation(given.ids, tokens, sampling._replace(temperature=heat), many)
            console = Console(session, given.text, many, shown_tokens, stop, title)
            try:
                for step in continuation:
                    if trace is not None:
                        lines.extend(session.traced(step, heat, console.ended, several=many > 1 or len(heats) > 1))
                    if not console.take(step):
                        break
            finally:
                console.close()
                if continuation.drawn:
                    tell(continuation.statistics)
    finally:
        if trace is not None:
            write("".join(lines), trace)  # what was drawn before an interruption too
