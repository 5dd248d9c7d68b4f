"""Whose names the tensors of a folder have: those of a family of transformers' models, or ours.

The model_type of config.json says it. Without one it is told from the names themselves. The layouts of GPT-2 and
GPT-BigCode have the same names and other orders of axes: there, and for a folder that was turned on its way
(nanoGPT's, MLX's), the shapes of matrices that are not square tell, or the format that a file names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from archcalc.huggingface.families import described_text, find, text_of_unknown
from archcalc.huggingface.families.wrappers import TEXT, WRAPPERS, text_part
from archcalc.huggingface.modules import NUMBERS
from archcalc_reference.weights.families import BY_TYPE, FAMILIES, OWN, Family

TOKENS = "embedding.token.weight"
HEAD = "unembedding.weight"


def whose(names: list[str], config: dict[str, Any], file: str) -> Family | None:
    """The family whose names these are, of a folder with this config.json (`file`); None where nobody's.

    What config.json says counts only where a tensor is named so. Raises Invalid where it names a family that is not
    known.
    """
    if any(map(OWN.knows, names)):
        return OWN
    if config.get("model_type") is not None:
        said = BY_TYPE[find(described_text(config, file), file).family.model_type]
        return said if any(map(said.knows, names)) else None
    known = [(sum(map(family.knows, names)), family) for family in FAMILIES]
    most = max(count for count, _ in known)
    return next(family for count, family in known if count == most) if most else None


def of_the_text_model(names: Iterable[str], config: dict[str, Any], family: Family) -> set[str]:
    """The names without those of what sees or hears, where config.json has a text model among others, and without
    those of modules that predict further tokens, which stand behind the last layer.
    """
    kind = config.get("model_type")
    alone = not isinstance(kind, str) or not (kind in WRAPPERS or text_of_unknown(config))
    names = list(names)
    further = of_modules(names, config, family)
    own = (name for name in names if family.knows(name) or (alone and part_of_file(name) is None))
    return {name for name in own if name not in further}


_SEES = (
    *("vision_tower", "vision_model", "vision_encoder", "vision_backbone", "visual", "visual_tokenizer", "vqmodel"),
    *("vision_tokenizer", "image_tower", "video_tower", "vision_embed_tokens", r"high_res_vision_\w+", "vpm"),
    "visual_embeddings_table",
)
_HEARS = ("audio_tower", "audio_encoder", "audio_tokenizer", "speech_encoder", "apm")
_CONNECTS = (
    *("multi_modal_projector", "mm_projector", "projector", "aligner", "connector", "merger", "patch_merger"),
    *("resampler", "resampler_model", "vision_resampler", "vision_projection", "vision_adapter", "qformer"),
    *("vision_language_adapter", "pre_mm_projector_norm", "image_newline", "view_separator", "embed_vision"),
    *("embed_audio", "embed_tokens_extend", "perception_emb_norm"),
)
_PARTS = {
    part: re.compile(rf"((model|thinker)\.)*({'|'.join(names)})(\.|$)")
    for part, names in (
        ("vision tower", _SEES),
        ("audio tower", _HEARS),
        ("connection of what sees or hears", _CONNECTS),
    )
}
"""How the names of tensors begin that are of other parts than the text model: modules of transformers' classes."""


def part_of_file(name: str) -> str | None:
    """Which part of a model of images or sound a tensor is of, by its name; None for the text model."""
    return next((part for part, begins in _PARTS.items() if begins.match(name)), None)


def of_modules(names: Iterable[str], config: dict[str, Any], family: Family) -> set[str]:
    """The names of tensors of multi-token prediction."""
    behind = _behind(config, family)
    return {name for name in names if _FURTHER.match(name) or (behind and family.full(name).startswith(behind))}


_MOST_FURTHER = 64
_FURTHER = re.compile(r"((model|language_model)\.)*mtp[._]")
"""How such names begin in the families that do not number modules as layers."""


def _behind(config: dict[str, Any], family: Family) -> tuple[str, ...]:
    """How the names of tensors of layers beyond the last begin."""
    text, kind = config, None
    if config.get("model_type") is not None:
        kind = find(described_text(config, "config.json"), "config.json").family.modules
        text = text_part(config, "config.json") if any(isinstance(config.get(key), dict) for key in TEXT) else config
    said = (text.get(key) for key in (kind.keys if kind else NUMBERS))
    n = next((n for n in said if n is not None), kind.otherwise if kind else 0)
    layers = text.get("num_hidden_layers")
    if not isinstance(layers, int) or not isinstance(n, int):
        return ()
    return tuple(family.layer.format(i=layers + i) for i in range(min(n, _MOST_FURTHER)))


def may_be_absent(name: str) -> bool:
    """Whether an index may promise a tensor that no shard has: a buffer, or one of the two names of a tied table."""
    return any(f.is_buffer(name) or f.full(name) in (f.table, f.head) for f in (*FAMILIES, OWN))
