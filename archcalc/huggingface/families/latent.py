"""Latent attention: DeepSeek-V2, DeepSeek-V3 and those that took it over, with experts or dense."""

from __future__ import annotations

import math
from typing import Any

from archcalc.huggingface.families.llama import ATTENTION_BIAS, GATED, LAYER, MLP_BIAS
from archcalc.huggingface.family import Family, decoder, rmsnorm, sizes, without
from archcalc.huggingface.layers import Kinds
from archcalc.huggingface.leaves import Draft, Leaf, Made, Number, Size
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import MOST_LAYERS, Said
from archcalc.huggingface.scaling import kind_of

_D_ROPE = Size("qk_rope_head_dim")


def _heads(said: Said) -> int:
    """As many key/value heads as heads: each makes its own of the latent."""
    heads = said.size("num_attention_heads")
    if not said.none("num_key_value_heads") and (found := said.size("num_key_value_heads")) != heads:
        said.fail("num_key_value_heads", f"must be num_attention_heads ({heads:,}) in latent attention", found)
    return heads


def _say_heads(value: Any, draft: Draft) -> None:
    draft.put("num_attention_heads", value)
    draft.put("num_key_value_heads", value)


_Q_RANK = Made(
    lambda said: None if said.none("q_lora_rank") else said.size("q_lora_rank"),
    lambda value, draft: draft.put("q_lora_rank", value),
)


class LatentRotary(Rotary):
    """The rotary positions of a part of each head; `rope_interleave` says which features are a pair, where it is."""

    def __init__(self, *, flagged: bool = False, **how: Any) -> None:
        super().__init__(_D_ROPE, **how)
        self.flagged = flagged

    def read(self, said: Said) -> dict[str, Any] | None:
        found = super().read(said)
        if found is not None and self.flagged and not said.none("rope_interleave") and said.flag("rope_interleave"):
            found = {"d_rotary": found["d_rotary"], "theta": found["theta"], "pairing": "neighbours", **found}
        return found

    def write(self, value: Any, draft: Draft) -> None:
        if value is not None and self.flagged:
            draft.put("rope_interleave", value.get("pairing", "halves") == "neighbours")
            value = {**value, "pairing": "halves"}
        super().write(value, draft)


class _Mscale(Leaf):
    """Whether scores are multiplied by the square of YaRN's factor by mscale_all_dim: wherever there is one."""

    def __init__(self, rotary: Rotary) -> None:
        self.rotary = rotary

    def read(self, said: Said) -> bool | None:
        inside = self.rotary.settings(said).inside
        scaled = kind_of(inside, self.rotary.names) == "yarn" and inside.get("mscale_all_dim")
        return True if scaled else None


def latent(rotary: Rotary, **more: Any) -> dict[str, Any]:
    """An attention, by the keys that all of these families have."""
    return {
        "kind": "latent",
        "n_heads": Made(_heads, _say_heads),
        "q_rank": _Q_RANK,
        "kv_rank": Size("kv_lora_rank"),
        "d_nope": Size("qk_nope_head_dim"),
        "d_rope": _D_ROPE,
        "d_value": Size("v_head_dim"),
        "bias": ATTENTION_BIAS,
        "norm": {"kind": "rmsnorm", "epsilon": 1e-6},  # whatever rms_norm_eps says
        "rotary": rotary,
        "mscale": _Mscale(rotary),
        **more,
    }


def layer_with(attention: dict[str, Any], mlp: Any) -> dict[str, Any]:
    return {**LAYER, "attention": attention, "mlp": mlp}


def latent_sizes(*given: int | None, latents: tuple[int | None, ...], **more: Any) -> dict[str, Any]:
    """The defaults of a class: Llama's sizes, then ranks and widths of heads."""
    names = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    found = sizes(*given, attention_bias=False, **dict(zip(names, latents, strict=True)), **more)
    return without(found, "head_dim")


DERIVED = ("head_dim", "qk_head_dim", "q_head_dim")
"""Keys that a class works out anew."""
FLAGGED, NEIGHBOURS, _HALVES = LatentRotary(flagged=True), LatentRotary(pairing="neighbours"), LatentRotary()
BIASED = {"bias": MLP_BIAS}


class _Depth(Kinds):
    """MiniCPM3's layers: what a branch is multiplied by follows from their number."""

    def write(self, types: list[str], draft: Draft) -> None:
        super().write(types, draft)
        share, root = draft["scale_depth"], math.sqrt(len(types))
        near = (share * root, math.nextafter(share * root, 0.0), math.nextafter(share * root, math.inf))
        draft["scale_depth"] = next((depth for depth in near if depth / root == share), share * root)


def _share(said: Said) -> float | None:
    """scale_depth / sqrt(layers); null is nothing."""
    layers = said.size("num_hidden_layers", most=MOST_LAYERS)
    if said.none("scale_depth"):
        said.value("scale_depth", counts=False)
        return None
    found = said.number("scale_depth") / math.sqrt(layers)
    return None if found == 1 else found


def _logits(said: Said) -> float | None:
    """What hidden vectors are divided by before the head, hidden_size / dim_model_base, as a factor."""
    width = said.size("hidden_size")
    base = width if said.none("dim_model_base") else said.size("dim_model_base", counts=False)
    return None if base == width else base / width


def _say_logits(value: Any, draft: Draft) -> None:
    width = draft["hidden_size"]
    draft.put("dim_model_base", width if value is None else round(value * width))


def _d_value(said: Said) -> int:
    if said.none("v_head_dim"):
        return said.size("hidden_size") // said.size("num_attention_heads")
    return said.size("v_head_dim")


_ALL = (
    Family(
        "youtu",
        "YoutuConfig",
        ("YoutuForCausalLM", "YoutuModel"),
        latent_sizes(
            *(128256, 2048, 6144, 32, 16, 16, 131072),
            latents=(1536, 512, 128, 64, 128),
            rope_interleave=True,
            tie_word_embeddings=True,
            initializer_range=None,
        ),
        layer_with(latent(FLAGGED), GATED),
        decoder(rmsnorm()),
        ignored=(*DERIVED, "embedding_initializer_range", "mlp_bias"),
        drawn=lambda said: 2.0 / (5.0 * said.size("hidden_size", counts=False)) ** 0.5,  # as YoutuConfig
    ),
    Family(
        "minicpm3",
        "MiniCPM3Config",
        ("MiniCPM3ForCausalLM", "MiniCPM3Model"),
        latent_sizes(
            *(73448, 2560, 6400, 62, 40, 40, 32768),
            latents=(768, 256, 64, 32, None),
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            mlp_bias=False,
            scale_emb=12,
            scale_depth=1.4,
            dim_model_base=256,
            initializer_range=0.1,
        ),
        {
            **layer_with(
                latent(
                    _HALVES, d_value=Made(_d_value, lambda value, draft: draft.put("v_head_dim", value)), mscale=None
                ),
                {**GATED, **BIASED},
            ),
            "scale": Made(_share, lambda value, draft: draft.put("scale_depth", 1.0 if value is None else value)),
        },
        decoder(
            rmsnorm(),
            embedding={"scale": Number("scale_emb", neutral=1.0)},
            unembedding={"scale": Made(_logits, _say_logits)},
        ),
        _Depth(),
        ignored=DERIVED,
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
