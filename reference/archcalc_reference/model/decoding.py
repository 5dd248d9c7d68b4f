"""Decoding one token at a time by the same work at every position, so that a GPU can record it once and replay it.

Launching the kernels of one token takes a CPU longer than a GPU takes to run them; a CUDA graph launches all at once.
What it replays has the shapes and numbers that were recorded. So the position is in a tensor: keys and values are
stored by index, angles are rows of tables, and attention reads all places of a room, behind a mask. Rooms double, so
that a short text does not pay for a long context; each is recorded when a text comes to it.

torch.compile would record the same, but needs a compiler on the machine and minutes before the first token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from archcalc_reference.model.attention import MultiHeadAttention
from archcalc_reference.model.cache import Cache
from archcalc_reference.model.kernels import autocasts
from archcalc_reference.model.mlp import DENSE
from archcalc_reference.model.positions import Positions, Scored, mask_between
from archcalc_reference.model.rotary import Angles, angles, changes, growth
from archcalc_reference.model.state import KeysValues, Read, Sight
from archcalc_reference.model.transformer import Transformer

if TYPE_CHECKING:
    from archcalc.blocks import Rotary
    from archcalc.blocks.growth import QueryGrowth
    from archcalc_reference.model.layer import Branch

SMALLEST_ROOM = 256  # positions

Work = Callable[[], Tensor]
"""What makes a tensor, in memory of its own or always in the same."""


def decodes(model: Transformer, cache: Cache) -> bool:
    """Whether `FixedStep` serves this model: all else decodes by the model's own forward pass.

    It serves dense MLPs and attention whose scores are only masked, turned and scaled: no recurrent states, experts,
    latent attention, chunks, sinks, caps, or angles that change with the length. Nor is a model served that lies on
    several devices, or that somebody watches: hooks do not run when work is replayed.
    """
    embedding = model.embedding
    return (
        bool(cache.kept)
        and not embedding.sinusoidal
        and embedding.per_layer is None
        and not autocasts(embedding.token.weight)
        and len({tensor.device for tensor in (*model.parameters(), *model.buffers(), *cache.tensors)}) == 1
        and not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())  # noqa: SLF001
        and all(_serves(branch, cache.length) for layer in model.layers for branch in layer.branches)
    )


def _serves(branch: Branch, length: int) -> bool:
    mixer = branch.mixer
    if branch.added is not None:
        return False
    if type(mixer) in DENSE.values():
        return True
    if type(mixer) is not MultiHeadAttention:
        return False
    if mixer.sight.chunk is not None or mixer.rule.own or mixer.rule.softcap is not None:
        return False
    return mixer.rotary is None or not changes(mixer.rotary, 0, length)


class FixedStep:
    """One new token for each of a cache's sequences, behind those that it holds: the work is the same at every place.

    `record` makes of that work what does it again: see `RECORDERS`. The model must be served: see `decodes`.
    """

    def __init__(self, model: Transformer, cache: Cache, record: Callable[[Work], Work]) -> None:
        device, self._record = model.embedding.token.weight.device, record
        self.model, self.cache = model, cache
        self._tokens_B1 = torch.zeros(cache.tensors[0].shape[0], 1, dtype=torch.int64, device=device)
        self._first_1 = torch.zeros(1, dtype=torch.int64, device=device)
        self._tables: dict[str, Any] = {}
        self._room = 0  # places that the recorded work reads
        self._again: Work | None = None
        for kept in cache.tensors:  # what a mask hides is multiplied by 0, which makes no 0 of what is no number
            kept[:, :, cache.filled :] = 0

    def __call__(self, tokens_B1: Tensor) -> Tensor:
        """Logits (B, V) for the token after these, which are kept in the cache.

        Raises ValueError where the cache is full.
        """
        first, most = self.cache.filled, min(self.model.spec.context_length, self.cache.length)
        if first >= most:
            raise ValueError(f"{first + 1:,} tokens; the context holds {most:,}")
        self._tokens_B1.copy_(tokens_B1)
        self._first_1.fill_(first)
        if self._again is None or first >= self._room:
            room = SMALLEST_ROOM
            while room <= first:
                room *= 2
            self._again, self._room = self._record(self._work(room)), room
        logits_BV = self._again()
        self.cache.filled += 1
        return logits_BV.clone()  # the next token's will stand where these do

    def _work(self, room: int) -> Work:
        """A pass over the token that stands in its place, which reads the first `room` places."""
        model, tokens_B1, length = self.model, self._tokens_B1, self.cache.length
        states = [[_in_room(state, room) for state in layer] for layer in self.cache.states]

        def run() -> Tensor:
            x_B1D = model.embedding(tokens_B1, self._first_1)
            positions = FixedPositions(self._first_1, length, model.spec.context_length, x_B1D, self._tables)
            for layer, kept in zip(model.layers, states, strict=True):
                layer.prepare(positions, kept)
            for layer, kept in zip(model.layers, states, strict=True):
                x_B1D = layer(x_B1D, None, positions, kept)
            logits: Tensor = model.unembedding(x_B1D if model.final_norm is None else model.final_norm(x_B1D))
            return logits[:, -1]

        return run


class FixedKeysValues(KeysValues):
    """The memory of a layer's keys and values, of which the first `room` places are read."""

    def __init__(self, k_BGTK: Tensor, v_BGTW: Tensor, sight: Sight, room: int) -> None:
        super().__init__(k_BGTK, v_BGTW, sight)
        self.room = min(room, self.places)

    def store(self, k_BGSK: Tensor, v_BGSW: Tensor, first: Any) -> tuple[Tensor, Tensor]:
        """Keep one position, the number of which is a tensor (1); the keys and values of the room come back."""
        place_1 = first % self.places
        self.k_BGTK.index_copy_(2, place_1, k_BGSK)
        self.v_BGTW.index_copy_(2, place_1, v_BGSW)
        return self.k_BGTK[:, :, : self.room], self.v_BGTW[:, :, : self.room]


def _in_room(state: Any, room: int) -> FixedKeysValues | None:
    return None if state is None else FixedKeysValues(state.k_BGTK, state.v_BGTW, state.sight, room)


class FixedPositions(Positions):
    """One position, the number of which is a tensor (1). `tables` outlive the pass: rows for all positions."""

    def __init__(self, first_1: Any, length: int, context_length: int, like: Tensor, tables: dict[str, Any]) -> None:
        super().__init__(first_1, 1, "flash", context_length, like)
        self._length, self._all = length, tables

    def read(self, sight: Sight, state: KeysValues | None) -> Read:  # noqa: ARG002
        """All places that there is room for."""
        assert isinstance(state, FixedKeysValues)  # noqa: S101
        return Read(0, state.room, masked=True)

    def add_mask(self, scored: Scored, read: Read) -> None:
        """A place holds the last of the positions that stand there, up to this one; before 0 there are none."""
        if scored not in self.masks:
            places = scored.sight.places(self._length)
            behind_T = (self.first - torch.arange(read.count, device=self._device)) % places
            keys_T = torch.where(behind_T > self.first, self.first + 1, self.first - behind_T)
            self.masks[scored] = mask_between(scored, self.first, keys_T, self._dtype)

    def add_angles(self, name: str, rotary: Rotary) -> None:
        """The row of this position."""
        if name not in self._all:
            self._all[name] = angles(rotary, 0, self._length, self._context_length, self._device)
        if name not in self.tables:
            cos, sin = self._all[name]
            self.tables[name] = Angles(cos[self.first], sin[self.first])

    def add_growth(self, name: str, growing: QueryGrowth) -> None:
        """The number of this position."""
        if name not in self._all:
            self._all[name] = growth(growing.rate, growing.interval, growing.first, self._length, self._device)
        self.growths.setdefault(name, self._all[name][self.first])


def captured(work: Work) -> Work:
    """The work as a CUDA graph: its inputs and its result stay where they are in memory.

    It runs before, on a stream of its own as capturing asks for: libraries take their memory, tables are made. That
    changes nothing, as the same token is stored at the same place again.
    """
    found = work()
    with torch.cuda.device(found.device):
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            work()
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = work()

    def again() -> Tensor:
        with torch.cuda.device(found.device):
            graph.replay()
        return found

    return again


RECORDERS: dict[str, Callable[[Work], Work]] = {"cuda": captured}
"""What records work on a kind of device, where launching it costs more than doing it."""
