"""The reference at work: one prediction, or one after the other."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import typer

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.catalogue import Found, find
from archcalc.commands.base import RUN, Form, Output, Spec, Weights, app, needs_to_run, number, read_text
from archcalc.errors import Invalid, Problem, shown
from archcalc.output import emit, tell, write

Prompt = Annotated[
    str, typer.Option("--prompt", "-p", metavar="TEXT", show_default=False, help="or - for standard input")
]
Temperature = Annotated[str, typer.Option(metavar="T", help="0 takes the most likely token; there is no upper limit")]
Precision = Annotated[Literal["fp32", "bf16"], typer.Option(help="in which the model works")]
TopK = Annotated[str | None, typer.Option(metavar="K", show_default=False, help="of so many likely tokens only")]
TopP = Annotated[
    str | None, typer.Option(metavar="P", show_default=False, help="of the likely tokens that have this together")
]
Show = Annotated[str | None, typer.Option(metavar="K", show_default=False, help="the K likely tokens at each step")]


@app.command(rich_help_panel=RUN)
def predict(
    spec: Spec,
    prompt: Prompt,
    weights: Weights = None,
    temperature: Temperature = "1",
    top: Annotated[str, typer.Option(metavar="K", help="how many of the likely tokens are shown")] = "20",
    precision: Precision = "fp32",
    form: Form = None,
    output: Output = None,
) -> None:
    """One prediction: what the model takes for the next token, with every probability."""
    needs_to_run("predict")
    from archcalc.report.prediction import prediction_sheet
    from archcalc_reference.generation import Sampling, generate

    found = find(spec)
    warm = real("--temperature", temperature)
    most = number("--top", top, found.model.vocab_size)
    session = Session(found, weights, precision)
    text, ids = session.read(prompt)
    step = next(generate(session.model, ids, 1, Sampling(warm)))
    emit(prediction_sheet(found, text, session.likely(step, 0, most), warm, len(ids)), form, output)


@app.command(rich_help_panel=RUN)
def generate(
    spec: Spec,
    prompt: Prompt,
    weights: Weights = None,
    max_tokens: Annotated[str, typer.Option(metavar="N", help="at most; fewer where the context ends")] = "100",
    temperature: Temperature = "1",
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Annotated[str, typer.Option(metavar="N", help="of the random numbers")] = "0",
    samples: Annotated[str, typer.Option(metavar="N", help="continuations at once, in one batch")] = "1",
    stop: Annotated[str | None, typer.Option(metavar="TEXT", show_default=False, help="ends a text before it")] = None,
    show: Show = None,
    compare_temperatures: Annotated[
        str | None, typer.Option(metavar="T,T", show_default=False, help="a text for each, from the same seed")
    ] = None,
    trace: Annotated[
        str | None, typer.Option(metavar="FILE", show_default=False, help="a line of JSON for each token")
    ] = None,
    precision: Precision = "fp32",
) -> None:
    """Text after a prompt, token by token, as it is drawn."""
    needs_to_run("generate")
    from archcalc.report.live import Console
    from archcalc_reference.generation import Sampling

    found = find(spec)
    model = found.model
    heats = [real("--temperature", temperature)]
    if compare_temperatures is not None:
        heats = [real("--compare-temperatures", part) for part in compare_temperatures.split(",")]
    share = None if top_p is None else real("--top-p", top_p)
    if share is not None and not 0 < share <= 1:
        raise Invalid(Problem("--top-p", "must be more than 0 and at most 1", value=shown(top_p)))
    if stop == "":
        raise Invalid(Problem("--stop", "is empty"))
    sampling = Sampling(
        top_k=None if top_k is None else number("--top-k", top_k, LARGEST_SIZE),
        top_p=share,
        seed=number("--seed", seed, 2**63 - 1, least=0),
    )
    many = number("--samples", samples, 1_000)
    tokens = number("--max-tokens", max_tokens, LARGEST_SIZE)
    shown_tokens = None if show is None else number("--show", show, model.vocab_size)
    session = Session(found, weights, precision)
    text, ids = session.read(prompt)
    lines: list[str] = []
    for heat in heats:
        console = Console(session, text, many, shown_tokens, stop, f"temperature {heat:g}" if len(heats) > 1 else "")
        for step in session.steps(ids, tokens, sampling._replace(temperature=heat), many):
            if trace is not None:
                lines.extend(session.traced(step, heat, several=many > 1 or len(heats) > 1))
            if not console.take(step):
                break
        console.close()
    if trace is not None:
        write("".join(lines), trace)


class Session:
    """A model with its weights and its tokenizer."""

    def __init__(self, found: Found, weights: str | None, precision: str) -> None:
        import torch

        from archcalc_reference.checkpoint import no_weights
        from archcalc_reference.resuming import latest
        from archcalc_reference.text import read_tokenizer
        from archcalc_reference.weights import load_weights

        if weights is None:
            raise no_weights(found.name)
        weights = str(latest(weights) or weights)  # of a training run that kept several
        self.found = found
        self.tokenizer = read_tokenizer(weights)
        if self.tokenizer.vocab_size > found.model.vocab_size:
            what = f"has {self.tokenizer.vocab_size:,} tokens; {found.name} has rows for {found.model.vocab_size:,}"
            raise Invalid(Problem(weights, f"its tokenizer {what}"))
        width = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        self.model = load_weights(found.model, weights, dtype=width).eval()

    def read(self, prompt: str) -> tuple[str, list[int]]:
        """A prompt and its tokens; Invalid for one that nothing can follow."""
        text = read_text("--prompt", prompt)
        ids = self.tokenizer.encode(text)
        most = self.found.model.context_length
        if not ids:
            raise Invalid(Problem("--prompt", "is empty"))
        if len(ids) >= most:
            raise Invalid(Problem("--prompt", f"has {len(ids):,} tokens; the context of {most:,} leaves none to come"))
        return text, ids

    def steps(self, ids: list[int], tokens: int, sampling: Any, samples: int) -> Iterator[Any]:
        """The steps of a generation, and at its end what it took."""
        import time

        from archcalc.activations import cache as cache_bytes
        from archcalc.run import Run
        from archcalc_reference.generation import generate
        from archcalc_reference.model import Cache

        weight = self.model.embedding.token.weight
        length = min(len(ids) + tokens, self.found.model.context_length)
        cache = Cache(self.found.model, samples, length, weight.dtype)
        counted = cache_bytes(self.found.model, Run("prefill", samples, length), weight.element_size())
        begin, count = time.perf_counter(), 0
        try:
            for step in generate(self.model, ids, tokens, sampling, samples=samples, cache=cache):
                count += samples
                yield step
        finally:
            rate = count / (time.perf_counter() - begin)
            agree = "as" if cache.nbytes == counted else f"and not {counted:,} as"
            tell(f"{count:,} tokens, {rate:,.1f} a second; the cache takes {cache.nbytes:,} bytes, {agree} counted")

    def likely(self, step: Any, sample: int, most: int) -> list[Any]:
        """The most likely tokens of a step."""
        from archcalc.report.prediction import Likely

        p = step.probabilities_NV[sample]
        best = p.topk(min(most, p.shape[0])).indices.tolist()
        return [Likely(self.token(i), step.logits_NV[sample, i].item(), p[i].item()) for i in best]

    def drawn(self, step: Any, sample: int) -> Any:
        """The token that was drawn, as one of the likely ones."""
        from archcalc.report.prediction import Likely

        token = step.tokens_N[sample]
        logit, p = step.logits_NV[sample, token].item(), step.probabilities_NV[sample, token].item()
        return Likely(self.token(token), logit, p)

    def token(self, token: int) -> Any:
        """A token with its bytes."""
        from archcalc.report.tokens import Token

        return Token(token, self.tokenizer.token_bytes(token))

    def traced(self, step: Any, heat: float, *, several: bool) -> Iterator[str]:
        """A line of JSON for each sample of a step."""
        import json

        for sample, token in enumerate(step.tokens_N):
            top = [one.record for one in self.likely(step, sample, 20)]
            line = {
                "position": step.position,
                "token_id": token,
                "text": self.token(token).text,
                "probability": step.probabilities_NV[sample, token].item(),
                "top": top,
                **({"sample": sample, "temperature": heat} if several else {}),
            }
            yield json.dumps(line, ensure_ascii=False) + "\n"


def real(flag: str, text: str) -> float:
    """A flag's number, 0 or more."""
    from archcalc.source import resolve

    found = resolve(text.strip())
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 <= found < float("inf"):
        raise Invalid(Problem(flag, "must be a number from 0", value=shown(text)))
    return float(found)
