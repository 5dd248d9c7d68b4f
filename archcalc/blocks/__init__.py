"""The blocks: one class per architecture feature, with its YAML fields, its labels' sizes and its ops together."""

from archcalc.blocks.attention import MultiHead
from archcalc.blocks.base import Block, Mixer, Strict, registered
from archcalc.blocks.delta import GatedDelta
from archcalc.blocks.embedding import Embedding, TokenEmbedding
from archcalc.blocks.experts import Experts
from archcalc.blocks.indexer import Indexer
from archcalc.blocks.latent import LatentAttention
from archcalc.blocks.lightning import Lightning
from archcalc.blocks.mamba import Mamba
from archcalc.blocks.mamba2 import Mamba2
from archcalc.blocks.mlp import GatedMLP, PlainMLP
from archcalc.blocks.norm import LayerNorm, RMSNorm
from archcalc.blocks.perlayer import PerLayer
from archcalc.blocks.rotary import Rotary
from archcalc.blocks.shortconv import ShortConvolution
from archcalc.blocks.unembedding import LinearUnembedding, Unembedding

__all__ = [
    "Block",
    "Embedding",
    "Experts",
    "GatedDelta",
    "GatedMLP",
    "Indexer",
    "LatentAttention",
    "LayerNorm",
    "Lightning",
    "LinearUnembedding",
    "Mamba",
    "Mamba2",
    "Mixer",
    "MultiHead",
    "PerLayer",
    "PlainMLP",
    "RMSNorm",
    "Rotary",
    "ShortConvolution",
    "Strict",
    "TokenEmbedding",
    "Unembedding",
    "registered",
]
