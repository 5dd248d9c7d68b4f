"""Tile and wave quantisation: the last round of tiles of a product leaves processors of a device idle."""

from __future__ import annotations

from collections.abc import Iterator

from archcalc.blocks.mlp import DenseMLP
from archcalc.checks.rules import Finding, Rule
from archcalc.checks.subject import Subject

TILE = (256, 128)
"""Rows and columns of a tile, either way round: the largest that is common, with which one tile fills a processor."""
IDLE = 0.25


def rounds(rows: int, columns: int, processors: int) -> tuple[int, int, float]:
    """Tiles of a product of `rows` x `columns`, the rounds that they take, and the share of the work that is idle.

    Of the two ways to lay the tile the one with fewer tiles.
    """
    tiles = min(-(-rows // a) * -(-columns // b) for a, b in (TILE, TILE[::-1]))
    taken = -(-tiles // processors)
    return tiles, taken, 1 - rows * columns / (taken * processors * TILE[0] * TILE[1])


def _waves(subject: Subject) -> Iterator[Finding]:
    """Of MLPs, whose products are the largest of a layer; of experts the rows depend on what a router chooses.

    Less than one round is not told: a smaller tile spreads it.
    """
    for device in subject.aim.devices:
        processors = device.processors
        for planned in subject.planned if processors else ():
            plan = planned.plan
            rows = plan.micro_batch * subject.model.context_length // plan.cp
            for where, part in subject.each(DenseMLP):
                if planned.broken or part.d_ff % plan.tp or processors is None:
                    continue
                columns = part.d_ff // plan.tp
                tiles, taken, idle = rounds(rows, columns, processors)
                if tiles > processors and idle >= IDLE:
                    cut = f" on each of {plan.tp} ranks" * (plan.tp > 1)
                    yield Finding(
                        f"{rows:,} rows x {columns:,} features{cut} (plan {planned.name}) are {tiles:,} tiles of "
                        f"{TILE[0]} x {TILE[1]}, {taken:,} rounds over the {processors} processors of {device.name}, "
                        f"of which {idle:.0%} are idle",
                        (*where, "d_ff"),
                        f"{part.d_ff:,}",
                        f"{taken * processors:,} tiles fill {taken:,} rounds: change d_ff or micro_batch",
                    )


RULES = (
    Rule(
        "AC115",
        "tile-and-wave-quantization",
        "an MLP's product takes a last round of tiles that leaves a quarter or more of a device's work idle",
        "a product is computed in tiles, as many at a time as the device has processors: 109 tiles on the 108 of an "
        "A100 take two rounds, the time of 216; looked at are devices whose file states their processors, of the "
        "catalogue a10, a100-40gb, a100-80gb, b200, h100-sxm, h200, rtx-4090 and t4",
        'S. Bekman, Machine Learning Engineering, "Tile and wave quantization", after Anthony et al. 2024, '
        "arXiv:2401.14489, and NVIDIA's Matrix Multiplication Background User's Guide, chapter Dimension Quantization "
        "Effects. The share is arithmetic for tiles of 256 x 128; a library may choose others",
        "choose d_ff, or sequences of a micro-batch, so that the rounds are nearly full",
        needs="device and plan",
        looks=_waves,
        example="d_ff: 4096, with 1,024 positions on an A100: 128 tiles in 2 rounds of 108, 41% idle",
    ),
)
