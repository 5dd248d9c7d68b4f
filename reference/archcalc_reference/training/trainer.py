"""Training, from the bottom of this file up: Trainer, one step, the rate of learning, a sample.

Plain PyTorch on one device: AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) with the betas, the weight decay and
the clipping of GPT-3 (Brown et al. 2020, arXiv:2005.14165, appendix B), a linear warm-up and a cosine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from archcalc.errors import Invalid, Problem
from archcalc.spec.checkpoints import State
from archcalc.spec.model import Model
from archcalc.spec.settings import Learned, Settings
from archcalc_reference.model.sampling import masked
from archcalc_reference.model.transformer import Transformer
from archcalc_reference.training import resuming
from archcalc_reference.training.data import Data

BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1
LARGEST_NORM = 1.0  # of all gradients together; longer ones are cut to it
LAST_RATE = 0.1  # of the highest, where the cosine ends
MOST_HELD_OUT = 2**17  # tokens that are read for a held-out loss

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Heard(NamedTuple):
    """What one step told: the loss before it, the length of all gradients together, and the rate that it took."""

    loss: float
    norm: float
    rate: float

    @property
    def finite(self) -> bool:
        """Whether the step was made; it is not if the gradient is not finite."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


def rate_of(step: int, settings: Settings) -> float:
    """How far a step goes: up to `settings.rate` along a line, then down along half a cosine to a tenth of it."""
    if step < settings.warmup:
        return settings.rate * (step + 1) / settings.warmup
    gone = (step - settings.warmup) / max(settings.steps - settings.warmup, 1)
    return settings.rate * (LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * gone)) / 2)


def sample(
    model: Transformer,
    prompt: list[int],
    tokens: int,
    *,
    seed: int,
    temperature: float = 0.8,
    never: Sequence[int] = (),
) -> list[int]:
    """Draw tokens after a prompt, each from what the model makes of all before it. Nothing is kept in between.

    The ids in `never` are not drawn.
    """
    draw, found = torch.Generator().manual_seed(seed), list(prompt)
    device, longest = model.embedding.token.weight.device, model.spec.context_length
    for _ in range(tokens):
        tokens_BS = torch.tensor([found[-longest:]], device=device)
        with torch.no_grad():
            logits_V = model(tokens_BS, kernel="flash").logits[0, -1].float().cpu()
        if not torch.isfinite(logits_V).all():
            raise Invalid(Problem("weights", "give logits that are not finite"))
        logits_V = masked(logits_V, never)
        chances_V = torch.softmax(logits_V / temperature, dim=-1)
        found.append(int(torch.multinomial(chances_V, 1, generator=draw)))
    return found[len(prompt) :]


class Trainer:
    """A model, its optimizer and its place in the data. `step()` learns from one batch."""

    def __init__(
        self,
        spec: Model,
        settings: Settings,
        data: Data,
        device: str | torch.device = "cpu",
        model: Transformer | None = None,
    ) -> None:
        """`model` is one that has its weights already, in the precision and on the device; else they are drawn."""
        torch.manual_seed(settings.seed)
        self.settings, self.data, self.device = settings, data, torch.device(device)
        # drawn in fp32 on any device
        self.model = model or Transformer(spec).to(self.device, TYPES[settings.precision])
        self.optimizer = torch.optim.AdamW(
            self._groups(),
            settings.rate,
            BETAS,
            weight_decay=WEIGHT_DECAY,
            # One tensor at a time, which takes the least memory, and is what archcalc counts; a GPU has one kernel.
            foreach=False,
            fused=self.device.type == "cuda",
        )
        self.done = 0  # steps
        self.kept: Path | None = None  # the last checkpoint

    def _groups(self) -> list[dict[str, Any]]:
        """The weights, those together that one kernel may step at once."""
        return [{"params": list(self.model.parameters())}]

    @property
    def taken(self) -> int:
        """Sequences learned from so far: the place in the data."""
        return self.done * self.settings.batch

    @property
    def held(self) -> list[Tensor]:
        """What is there from step to step: weights and the optimizer's state."""
        state = [x for kept in self.optimizer.state.values() for x in kept.values()]
        return [*self.model.parameters(), *state]

    def step(self) -> Heard:
        """Forward and backward through each part of a batch, then one step of the optimizer along their mean."""
        asked, rate = self.settings, rate_of(self.done, self.settings)
        heard = 0.0
        loss: Tensor | None = None
        for part in range(asked.accumulate):
            del loss  # of the part before
            tokens, targets = self._placed(self._drawn(part))
            loss = self._passes(tokens, targets, part)
            heard += loss.item() / asked.accumulate
        told = Heard(self._agreed(heard), self._clipped(), rate)
        if told.finite:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            self.done += 1
        self.optimizer.zero_grad(set_to_none=True)
        return told

    def _drawn(self, part: int) -> tuple[Tensor, Tensor]:
        """The sequences of a part of the step's batch."""
        asked = self.settings
        return self.data.batch(self.taken + part * asked.part, asked.part)

    def _passes(self, tokens: Tensor, targets: Tensor, part: int) -> Tensor:  # noqa: ARG002  (of use to ranks)
        """Forward and backward through a part, and its loss."""
        loss: Tensor = self.model(tokens, targets, self.settings.attention).loss
        loss.backward(torch.full_like(loss, 1 / self.settings.accumulate))
        return loss

    def _agreed(self, loss: float) -> float:
        """The mean of a loss over all who learn together."""
        return loss

    def _clipped(self) -> float:
        """The length of all gradients together, which are cut to the longest that is stepped along."""
        return torch.nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_NORM).item()

    def held_out(self) -> float:
        """The mean loss of a token that was never learned from, in nats; each has what came before in its sequence."""
        total = tokens = 0.0
        for batch in self.data.held_out(self.settings.part, max(MOST_HELD_OUT // self.settings.sequence, 1)):
            with torch.no_grad():
                loss = self._judged(*self._placed(batch))
            total += loss * batch[1].numel()
            tokens += batch[1].numel()
        return total / tokens

    def _judged(self, tokens: Tensor, targets: Tensor) -> float:
        """The mean loss of sequences that are not learned from."""
        return self.model(tokens, targets, self.settings.attention).loss.item()

    def save(self, folder: Path, data: Learned, beside: Mapping[str, bytes] | None = None) -> Path:
        """Write a checkpoint that says which `data` was learned from, with files `beside` it."""
        args = (folder, self.done, self.model, self.optimizer, self.state(data), beside or {}, self.kept)
        self.kept = resuming.save(*args)
        return self.kept

    def state(self, data: Learned) -> dict[str, Any]:
        """What a checkpoint says of the training, which learned from `data`."""
        return {
            "sequences": self.taken,
            "settings": self.settings.model_dump(),
            "threads": torch.get_num_threads(),
            "data": data.model_dump(),
        }

    def go_on(self, folder: Path, state: State) -> None:
        """Take the step and the optimizer's state of the checkpoint whose weights these are, and whose state this."""
        resuming.load_optimizer(folder, self.model, self.optimizer, state.step)
        self.done, self.kept = state.step, folder

    def run(self) -> Iterator[Heard]:
        """Every step that is left."""
        while self.done < self.settings.steps:
            yield self.step()

    def _placed(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        tokens, targets = (x.to(self.device) for x in batch)
        return tokens, targets
