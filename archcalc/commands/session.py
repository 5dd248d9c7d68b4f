"""A model that runs: its weights, its tokenizer, and the options of the commands that sample tokens from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from archcalc.commands.base import read_text
from archcalc.commands.weights import has_numbers, refuse_other_spec, tokenizer_in, weights_of
from archcalc.errors import Invalid, Problem, printable
from archcalc.escaping import json_text
from archcalc.report.output import tell
from archcalc.spec.catalogue import Found
from archcalc.units import several

if TYPE_CHECKING:
    from archcalc.report.tokens import Token
    from archcalc_reference.model.sampling import Sampling
    from archcalc_reference.model.transformer import Cache, Transformer
    from archcalc_reference.text.tokenizer import Tokenizer

Prompt = Annotated[
    str,
    typer.Option(
        "--prompt", "-p", metavar="TEXT", show_default=False, help="text to continue, or - for standard input"
    ),
]
Precision = Annotated[
    Literal["fp32", "bf16"], typer.Option(metavar="TYPE", help="number format of the model: fp32 or bf16")
]


class Given(NamedTuple):
    """A text and its tokens, of which the tokenizer added the first ones, as it does to every text: it `begins` so."""

    text: str
    ids: list[int]
    begins: tuple[Token, ...]


class Session:
    """A model that runs, its tokenizer, and the spec that both belong to."""

    def __init__(
        self, found: Found, model: Transformer, tokenizer: Tokenizer, folder: str = "", named: str = ""
    ) -> None:
        """`folder` has the weights, where they have numbers; `named` is where the tokenizer is, if not beside them.

        A tokenizer's own place says which tokens end a text, or else the weights' folder.
        """
        from archcalc_reference.text.tokenizer import ends_of_named, folder_of_named, read_ends

        self.found, self.model, self.tokenizer, self.folder = found, model, tokenizer, folder
        self.places = [place for place in (folder_of_named(named), folder) if place]
        """Where files of the tokenizer are, those beside the weights last."""
        own = ends_of_named(named, tokenizer) if named else frozenset[int]()
        self.ends = own or (read_ends(folder, tokenizer) if folder else frozenset())
        nameless = tokenizer.nameless(found.model.vocab_size) if folder else []
        self.nameless = [token for token in nameless if token not in self.ends]
        """The ids that are not in the tokenizer: they are never sampled."""

    @classmethod
    def load(cls, found: Found, weights: str | None, precision: str = "fp32", tokenizer: str | None = None) -> Session:
        """With the weights of a folder, which may be the one named as the spec, and its tokenizer or another."""
        import torch

        from archcalc_reference.text.tokenizer import tokenizer_for, tokenizer_of
        from archcalc_reference.weights.folder import load_weights
        from archcalc_reference.weights.headers import no_weights, read_headers

        named = (found.folder or None) if weights is None else weights
        if named is None:
            raise no_weights(found.typed)
        weights = weights_of(named)
        if not has_numbers(weights):
            read_headers(weights)  # which says what there is instead
        refuse_other_spec(found, named, weights)
        name, rows = found.name, found.model.vocab_size
        place = "" if tokenizer is None else tokenizer_in(tokenizer)
        cuts = tokenizer_for(place, name, rows, weights=True) if place else tokenizer_of(weights, name, rows)
        width = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        model = load_weights(found.model, weights, dtype=width).eval()
        if precision == "bf16" and not _computes_bf16():
            tell("the CPU has no bf16 instructions: the weights are rounded to bf16, and computed with in fp32")
            model = model.float()
        session = cls(found, model, cuts, weights, place)
        _tell_tokenizer(cuts)
        if session.nameless:
            tell(f"{len(session.nameless):,} of the {rows:,} token ids are not in the tokenizer and are never sampled")
        return session

    @classmethod
    def of_shapes(cls, found: Found, tokenizer: str | None = None) -> Session:
        """Without numbers, on PyTorch's meta device, whatever the size; without a tokenizer bytes are its tokens."""
        import torch

        from archcalc_reference import Transformer
        from archcalc_reference.text.tokenizer import ByteTokenizer, tokenizer_for

        rows = found.model.vocab_size
        if tokenizer is None and rows < ByteTokenizer.vocab_size:
            what = f"has a vocabulary of {rows:,}, too small for bytes"
            raise Invalid(Problem(found.name, what, suggestion="--tokenizer DIR names a tokenizer of that size"))
        cuts = (
            ByteTokenizer()
            if tokenizer is None
            else tokenizer_for(tokenizer_in(tokenizer), found.name, rows, weights=False)
        )
        _tell_tokenizer(cuts)
        with torch.device("meta"):
            return cls(found, Transformer(found.model).eval(), cuts)

    def tell_settings(self, sampling: Sampling) -> None:
        """Report the generation settings of the weights' folder that are not used."""
        from archcalc_reference.text.drawing import not_taken

        if self.folder and (line := not_taken(self.folder, sampling)):
            tell(printable(line))

    def tell_begin(self, given: Given) -> None:
        """Report the tokens that the tokenizer put before a text."""
        from archcalc.report.tokens import begins_said

        if given.begins:
            tell(printable(f"{self.tokenizer.name}: the prompt {begins_said(given.begins)}"))

    @property
    def has_numbers(self) -> bool:
        """Whether its weights are more than shapes."""
        return bool(self.folder)

    def read(self, prompt: str, to_come: int = 1) -> Given:
        """A prompt and its tokens. Raises Invalid where it is empty, or leaves no room for `to_come` more tokens."""
        return self.cut(read_text("--prompt", prompt), to_come)

    def cut(self, text: str, to_come: int = 1, where: str = "--prompt") -> Given:
        """The tokens of a text that was given at `where`. Raises as `read` does."""
        from archcalc_reference.text.around import begun

        own = self.tokenizer.encode(text)
        if (change := self.tokenizer.cut(text)[1]) is not None and change.loses:
            tell(printable(f"{self.tokenizer.name}: {change.what}"))
        most = self.found.model.context_length
        if not own:
            raise Invalid(Problem(where, "is empty"))
        ids = begun(own, self.tokenizer.around.before)
        if len(ids) > most - to_come:
            left = ", which leaves no room for a new one" if to_come else ""
            raise Invalid(Problem(where, f"has {len(ids):,} tokens; the context holds {most:,}{left}"))
        return Given(text, ids, tuple(map(self.token, ids[: len(ids) - len(own)])))

    def parts(self, given: Given) -> list[bytes]:
        """The bytes of a text that each of its tokens has; one that the tokenizer added has none."""
        first = len(given.begins)
        return [b""] * first + [self.tokenizer.token_bytes(token) for token in given.ids[first:]]

    def continuation(self, ids: list[int], tokens: int, sampling: Sampling, samples: int) -> Continuation:
        """The tokens after a prompt, sampled as they are asked for."""
        return Continuation(self, ids, tokens, sampling, samples)

    def cache_said(self, cache: Cache, samples: int = 1) -> str:
        """The bytes of a cache, with the states of recurrent mixers, compared with the count."""
        from archcalc.counts.activations import cache as cache_bytes
        from archcalc.counts.activations import recurrent_state
        from archcalc.tape.roles import widths
        from archcalc.tape.run import Run

        width = self.model.embedding.token.weight.element_size()
        run = Run("prefill", samples, cache.length)
        counted = cache_bytes(self.found.model, run, width)
        states = recurrent_state(self.found.model, run, widths(width))
        agree = "as counted" if cache.nbytes == counted + states else f"but {counted + states:,} were counted"
        named = "recurrent state takes" if not counted else "KV cache and recurrent state take"
        return f"the {named if states else 'KV cache takes'} {cache.nbytes:,} bytes, {agree}"

    def likely(self, step: Any, sample: int, most: int) -> list[Any]:
        """The most likely tokens of a step."""
        from archcalc.report.prediction import Likely

        p = step.probabilities_NV[sample]  # many of them may be 0: which are likely is what the scores say
        named = p.shape[0] - len(self.nameless)
        best = step.logits_NV[sample].topk(min(most, named)).indices.tolist()
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

    def traced(self, step: Any, heat: float, ended: list[bool], *, several: bool) -> Iterator[str]:
        """A line of JSON for each sample of a step that has not ended before it."""
        for sample, token in enumerate(step.tokens_N):
            if ended[sample]:
                continue
            top = [one.record for one in self.likely(step, sample, 20)]
            line = {
                "position": step.position,
                "token_id": token,
                "text": self.token(token).text,
                "probability": step.probabilities_NV[sample, token].item(),
                "top": top,
                **({"sample": sample, "temperature": heat} if several else {}),
            }
            yield json_text(line) + "\n"


def _computes_bf16() -> bool:
    """Whether the CPU multiplies matrices of bf16 by itself; without that they take longer than those of fp32.

    Where PyTorch does not tell what its CPU has, it is taken to.
    """
    import torch

    known = getattr(torch.cpu, "get_capabilities", None)
    return known is None or any(known().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _tell_tokenizer(cuts: Tokenizer) -> None:
    """What is to be known of a tokenizer, on lines of their own."""
    from archcalc_reference.text.around import Around, spelled

    ends = spelled(Around(after=cuts.around.after), cuts.text_of)
    for line in (*cuts.told, *([f"adds {ends}, which is left out: the text is to be continued"] if ends else [])):
        tell(printable(f"{cuts.name}: {line}"))


class Continuation:
    """The steps of one generation, each sampled when it is asked for, and their statistics."""

    def __init__(self, session: Session, ids: list[int], tokens: int, sampling: Sampling, samples: int) -> None:
        from archcalc_reference.model.transformer import Cache

        model = session.found.model
        length = min(len(ids) + tokens, model.context_length)
        self._cache = Cache(model, samples, length, session.model.embedding.token.weight.dtype)
        self._session, self._given, self._samples = session, (ids, tokens, sampling), samples
        self.drawn, self._seconds = 0, 0.0

    def __iter__(self) -> Iterator[Any]:
        import time

        from archcalc_reference.model.generation import generate

        begin = time.perf_counter()
        never = self._session.nameless
        for step in generate(self._session.model, *self._given, samples=self._samples, cache=self._cache, never=never):
            self.drawn += self._samples
            self._seconds = time.perf_counter() - begin
            yield step

    @property
    def statistics(self) -> str:
        """One line: how many tokens, how fast, and the size of the KV cache."""
        rate = self.drawn / self._seconds
        took = self._session.cache_said(self._cache, self._samples)
        return f"{several(self.drawn, 'token')}, {rate:,.1f} per second; {took}"
