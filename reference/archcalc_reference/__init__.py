"""The reference model: plain PyTorch built from the same spec, against which archcalc's counts are verified.

>>> import archcalc, archcalc_reference
>>> model = archcalc_reference.Transformer(archcalc.load("tiny"))
>>> logits = model(tokens).logits                      # tokens: (B, S) integers

Names are imported when they are first used: tokenizing a text does not import PyTorch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archcalc_reference.model.transformer import Output as Output
    from archcalc_reference.model.transformer import Transformer as Transformer

__all__ = ["Output", "Transformer"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from archcalc_reference.model import transformer as model

        return getattr(model, name)
    raise AttributeError(f"module 'archcalc_reference' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
