"""The blocks: one class per architecture feature, with its YAML fields, its labels' sizes and its ops together."""

from archcalc.blocks.attention import MultiHead
from archcalc.blocks.base import Block, Strict, registered
from archcalc.blocks.embedding import Embedding
from archcalc.blocks.mlp import PlainMLP
from archcalc.blocks.norm import LayerNorm
from archcalc.blocks.unembedding import Unembedding

__all__ = ["Block", "Embedding", "LayerNorm", "MultiHead", "PlainMLP", "Strict", "Unembedding", "registered"]
