"""The reference model: plain PyTorch, built from the same spec, that shows that archcalc's counts are true.

>>> import archcalc, archcalc_reference
>>> model = archcalc_reference.Transformer(archcalc.load("tiny"))
>>> logits = model(tokens).logits                      # tokens: (B, S) integers
"""

from archcalc_reference.model import Output, Transformer

__all__ = ["Output", "Transformer"]
