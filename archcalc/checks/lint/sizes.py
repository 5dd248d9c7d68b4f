"""Multiples that tensor cores want of sizes in 16 bits, and how a message says that one is not."""

from __future__ import annotations

ALIGNED = 64
"""Elements of 16 bits in 128 bytes, what an A100 reads of a row at a time; a V100 is content with 16 bytes, 8
elements."""
LEAST = 8

SOURCE = (
    'S. Bekman, Machine Learning Engineering, "Vector and matrix size divisibility", after Anthony et al. 2024, '
    "arXiv:2401.14489, and NVIDIA's Matrix Multiplication Background User's Guide, section Tensor Core Requirements: "
    "sizes should be multiples of 128 bytes on A100, of 16 bytes on V100"
)


def fits(size: int, small: int = 1) -> bool:
    """Whether a size is a multiple of 64; one below 64, which no tile divides, is a multiple of `small`."""
    return size % (ALIGNED if size > ALIGNED else small) == 0


def said(size: int) -> str:
    """How far a size is from a multiple: "is odd, not a multiple of 64", "is a multiple of 16, not of 64"."""
    power = size & -size
    wanted = ALIGNED if size > ALIGNED else LEAST
    return f"is a multiple of {power}, not of {wanted}" if power > 1 else f"is odd, not a multiple of {wanted}"


def used(size: int = ALIGNED) -> str:
    """What tensor cores want of a size that is no such multiple, as the end of a sentence."""
    wanted = f"{ALIGNED} (A100" if size >= ALIGNED else f"{LEAST} (V100"
    return f"and tensor cores are used in full at multiples of {wanted}, 16 bits)"


def above(size: int, multiple: int = ALIGNED) -> int:
    """The multiple that is not below a size."""
    return -(-size // multiple) * multiple


def nearest(size: int, multiple: int = ALIGNED) -> str:
    """The multiples on both sides, as a suggestion."""
    high = above(size, multiple)
    near = [n for n in (high - multiple, high) if n]
    return f"nearest: {' or '.join(f'{n:,}' for n in near)}"
