"""Optimizers: what each keeps of a parameter from step to step, and what it makes while it steps."""

from __future__ import annotations

from typing import Literal, NamedTuple

Optimizer = Literal["adamw-fused", "adamw", "adamw-foreach", "adamw-8bit", "adafactor", "muon", "sgd", "sgd-plain"]
Kept = Literal["moments", "blocks", "factors", "momentum"]


class Method(NamedTuple):
    """What an optimizer keeps, and what it makes while it steps.

    `moments` are kept for each parameter, and where it `counts` its steps a number for each tensor. `temporaries` are
    made of one `tensor` at a time, or of `all` tensors at once. `kept` says how moments are stored: as numbers of
    their own (`moments`), as bytes in `blocks` with scales, as `factors` of each matrix, or as one `momentum` of each
    matrix of the layers and two moments of all else.
    """

    moments: int
    counts: bool
    temporaries: Literal["none", "tensor", "all"]
    meaning: str
    kept: Kept = "moments"

    @property
    def splits(self) -> bool:
        """Whether any part of a tensor can be stepped without the rest of it, as ranks that share state do."""
        return self.kept in ("moments", "blocks")


OPTIMIZERS: dict[str, Method] = {
    "adamw-fused": Method(2, counts=True, temporaries="none", meaning="AdamW in one fused kernel, 2 moments"),
    "adamw": Method(2, counts=True, temporaries="tensor", meaning="AdamW, one tensor at a time, 2 moments"),
    "adamw-foreach": Method(
        2, counts=True, temporaries="all", meaning="AdamW, all tensors at once (foreach), 2 moments"
    ),
    "adamw-8bit": Method(
        2,
        counts=False,
        temporaries="none",
        meaning="AdamW with moments of 8 bits in blocks of 256 (bitsandbytes)",
        kept="blocks",
    ),
    "adafactor": Method(
        0,
        counts=True,
        temporaries="tensor",
        meaning="Adafactor, one tensor at a time, a mean of squares for each row and each column of a matrix",
        kept="factors",
    ),
    "muon": Method(
        1,
        counts=True,
        temporaries="tensor",
        meaning="Muon for the matrices of layers, 1 momentum; fused AdamW for all else, 2 moments",
        kept="momentum",
    ),
    "sgd": Method(1, counts=False, temporaries="none", meaning="SGD with momentum, 1 moment"),
    "sgd-plain": Method(0, counts=False, temporaries="none", meaning="SGD without momentum"),
}
"""AdamW: Loshchilov & Hutter 2019, arXiv:1711.05101. 8-bit: Dettmers et al. 2022, arXiv:2110.02861, and bitsandbytes
0.50. Adafactor: Shazeer & Stern 2018, arXiv:1804.04235, without a first moment, as torch.optim.Adafactor. Muon: Jordan
2024, kellerjordan.github.io/posts/muon, and Liu et al. 2025, arXiv:2502.16982, as torch.optim.Muon. On a GPU
torch.optim.AdamW is foreach by default; Megatron-LM and DeepSpeed use fused kernels."""
