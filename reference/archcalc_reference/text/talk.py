"""A conversation with a model: its turns, their cache, and what is dropped when the context is full."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

from archcalc.errors import Invalid, Problem
from archcalc_reference.model.generation import Step, generate
from archcalc_reference.model.sampling import Sampling
from archcalc_reference.model.transformer import Cache, Transformer
from archcalc_reference.text.around import begun
from archcalc_reference.text.template import Message, Template
from archcalc_reference.text.tokenizer import Tokenizer


class Turn(NamedTuple):
    """What one turn took of the context.

    Attributes:
        tokens: of the whole text before the answer; `held` of them stood in the cache already.
        gone: messages that left before it, the oldest first, because there was no room; they had `gone_tokens`.
    """

    tokens: int
    held: int
    gone: int
    gone_tokens: int


class Talk:
    """Messages between a user and a model.

    The whole talk is one text that is made anew each turn; what it shares with the cache from the first token on is
    not read again. So a turn costs what is new in it. When old turns leave, what stood behind them is read again, for
    it stands elsewhere.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        template: Template,
        *,
        system: str = "",
        ends: frozenset[int] = frozenset(),
        never: Sequence[int] = (),
    ) -> None:
        """The ids in `never` are not drawn."""
        weight = model.embedding.token.weight
        self.model, self.tokenizer, self.template, self.ends = model, tokenizer, template, ends
        self._never = never
        self.cache = Cache(model.spec, 1, model.spec.context_length, weight.dtype, weight.device)
        self._first = [Message("system", system)] if system else []
        self._said: list[Message] = []
        self._held: list[int] = []  # the tokens whose keys and values are in the cache
        self._text: list[int] = []

    @property
    def messages(self) -> list[Message]:
        """What the model will see again, the system prompt first."""
        return [*self._first, *self._said]

    @property
    def taken(self) -> int:
        """Places of the context that stand in the cache."""
        return self.cache.filled

    def hear(self, text: str, room: int) -> Turn:
        """Take what the user says; the oldest turns leave until `room` tokens of an answer have place.

        Raises Invalid, with nothing changed, where it has no place even alone.
        """
        most = self.model.spec.context_length
        said = [*self._said, Message("user", text)]
        ids = before = self._encoded(said)
        gone = 0
        while len(ids) + room > most and len(said) > gone + 1:
            gone += 2 if len(said) > gone + 2 else 1  # a question with its answer
            ids = self._encoded(said[gone:])
        if len(ids) + 1 > most:
            what = f"takes {len(ids):,} tokens with the conversation so far; the context of {most:,} leaves no room"
            raise Invalid(Problem("the message", what))
        self._said, self._text = said[gone:], ids
        held = next((i for i, (a, b) in enumerate(zip(self._held, ids, strict=False)) if a != b), len(self._held))
        self.cache.rewind(min(held, len(ids) - 1))  # the last one is read again for its logits
        return Turn(len(ids), self.cache.filled, gone, len(before) - len(ids))

    def answer(self, tokens: int, sampling: Sampling) -> Generator[Step, None, None]:
        """Draw up to `tokens` of an answer, fewer where the model ends it or the context does."""
        ids = self._text
        drawn: list[int] = []
        try:
            held, new = ids[: self.cache.filled], ids[self.cache.filled :]
            steps = generate(self.model, new, tokens, sampling, cache=self.cache, before=held, never=self._never)
            for step in steps:
                if step.tokens_N[0] in self.ends:
                    return
                drawn.append(step.tokens_N[0])
                yield step
        finally:
            self._held = [*ids, *drawn][: self.cache.filled]

    def answered(self, text: str) -> None:
        """Keep what the model said, as it was understood."""
        self._said.append(Message("assistant", text))

    def _encoded(self, said: list[Message]) -> list[int]:
        ids = self.tokenizer.encode(self.template.render([*self._first, *said]))
        # A checkpoint's template writes what belongs before a text itself.
        return begun(ids, self.tokenizer.around.before) if self.template.name == "plain" else ids
