"""Layers of Mamba-2 among others: Nemotron-H, whose layers have one mixer each, and Mamba-2 itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archcalc.huggingface.families.balanced import BALANCED, GROUPED, groups_share
from archcalc.huggingface.families.llama import MLP_BIAS
from archcalc.huggingface.families.mixtures import TRAINING, experts
from archcalc.huggingface.family import HEADS, Family, decoder, rmsnorm
from archcalc.huggingface.hybrid import RECURRENT, branch
from archcalc.huggingface.layers import FULL, Kinds, refuse_unlike
from archcalc.huggingface.leaves import Activation, ByLayer, Draft, Flag, Made, Number, Shared, Size
from archcalc.huggingface.modules import Modules
from archcalc.huggingface.said import MOST_LAYERS, Said

KERNELS = ("use_mamba_kernels", "mamba_ssm_cache_dtype", "num_logits_to_keep", "residual_in_fp32")
START = ("time_step_floor", "time_step_max", "time_step_rank", "rescale_prenorm_residual")
"""How weights are drawn, which changes no count."""


def mamba2(heads: Any, d_head: Any, d_state: Any, **more: Any) -> dict[str, Any]:
    """Mamba-2 in the words of most configs."""
    return {
        "kind": "mamba2",
        "n_heads": heads,
        "n_groups": divided("n_groups", "mamba_num_heads"),
        "d_head": d_head,
        "d_state": d_state,
        "d_conv": Size("conv_kernel"),
        "chunk_size": Size("chunk_size"),
        "activation": Activation("hidden_act"),
        "bias": Flag("use_bias"),
        "conv_bias": Flag("use_conv_bias"),
        "norm": rmsnorm("layer_norm_epsilon"),
        **more,
    }


def divided(key: str, whole: str) -> Made:
    """A number of groups that divides that of heads."""

    def groups(said: Said) -> int:
        found, heads = said.size(key), said.size(whole)
        if heads % found:
            said.fail(key, f"must divide {whole} ({heads:,})", found)
        return found

    return Made(groups, lambda value, draft: draft.put(key, value))


_LETTERS = {"M": RECURRENT, "E": "moe", "*": FULL, "-": "mlp"}
_OLDER = {"mamba": RECURRENT, "attention": FULL}
_NAMES = {RECURRENT: "mamba2", "moe": "experts", FULL: "attention", "mlp": "mlp"}


class OneMixer(Kinds):
    """Layers with one mixer each, in the order of a list or of letters."""

    def types(self, said: Said) -> list[str]:
        found = said.value("hybrid_override_pattern", counts=False)
        listed = said.value("layers_block_type", counts=False)
        if found is None:
            return self._counted(said, self._listed(said, listed))
        if not isinstance(found, str) or not found or not set(found) <= set(_LETTERS):
            said.fail("hybrid_override_pattern", "must be letters M, E, * and -, one for each layer", found)
        types = [_LETTERS[letter] for letter in self._few(said, "hybrid_override_pattern", list(found))]
        if listed is not None:
            refuse_unlike(said, "layers_block_type", self._listed(said, listed), "hybrid_override_pattern", types)
        return self._counted(said, types)

    def _counted(self, said: Said, types: list[str]) -> list[str]:
        """The types, as many as the file says there are layers; the class takes no notice of that number."""
        if said.says("num_hidden_layers") and said.says(key := self._key(said)):
            n = said.size("num_hidden_layers", most=MOST_LAYERS, counts=False)
            if n != len(types):
                said.fail("num_hidden_layers", f"contradicts {key}, which has {len(types):,} layers", n)
        return types

    def _key(self, said: Said) -> str:
        return "layers_block_type" if said.says("layers_block_type") else "hybrid_override_pattern"

    def _listed(self, said: Said, listed: Any) -> list[str]:
        if listed is None:
            return [RECURRENT, "moe", FULL, "mlp"]
        if not isinstance(listed, list) or not listed:
            said.fail("layers_block_type", "must be a list with a type for each layer", listed)
        types = [_OLDER.get(kind, kind) if isinstance(kind, str) else kind for kind in listed]
        for kind in types:
            if not isinstance(kind, str) or kind not in _NAMES:
                said.fail("layers_block_type", "has an unknown type of layer", kind)
        return self._few(said, "layers_block_type", types)

    def _few(self, said: Said, key: str, types: list[str]) -> list[str]:
        if len(types) > MOST_LAYERS:
            said.fail(key, f"must have at most {MOST_LAYERS:,} layers", len(types))
        return types

    def name(self, layer: str) -> str:
        return _NAMES[layer]

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:
        branches = layer.get("branches", [{}])
        kind = branches[0].get("mixer", {}).get("kind")
        first = {"mamba2": RECURRENT, "multi_head": FULL, "experts": "moe"}.get(kind, "mlp")
        return sorted(_NAMES, key=lambda name: name != first)

    def write(self, types: list[str], draft: Draft) -> None:
        draft.put("num_hidden_layers", len(types))
        draft.put("layers_block_type", types)


_NORM = rmsnorm("layer_norm_epsilon")
_MLP = {
    "kind": "plain",
    "d_ff": Size("intermediate_size"),
    "activation": Activation("mlp_hidden_act"),
    "bias": MLP_BIAS,
}
_ATTENTION = {
    "kind": "multi_head",
    "n_heads": HEADS,
    "n_kv_heads": Shared("num_key_value_heads", "num_attention_heads"),
    "d_head": Size("head_dim"),
    "bias": False,
}
_MAMBA = mamba2(
    Size("mamba_num_heads"),
    Size("mamba_head_dim"),
    Size("ssm_state_size"),
    activation=Activation("mamba_hidden_act"),
    least_step=Number("time_step_min", neutral=0.0),
)
_EXPERTS = {
    **experts("n_routed_experts", "moe_intermediate_size", BALANCED, **GROUPED),
    "gated": False,
    "activation": Activation("mlp_hidden_act"),
    "shared": {**_MLP, "d_ff": Size("moe_shared_expert_intermediate_size")},
    "d_latent": Made(
        lambda said: None if said.none("moe_latent_size") else said.size("moe_latent_size"),
        lambda value, draft: draft.put("moe_latent_size", value),
    ),
    "latent_bias": Made(lambda said: None if said.none("moe_latent_size") else said.flag("mlp_bias") or None),
}


def _one(name: str, mixer: Mapping[str, Any]) -> dict[str, Any]:
    return {"branches": [branch(name, mixer, _NORM)]}


def _modules(said: Said, _types: list[str], _n: int) -> list[str]:
    """The mixers of a module: by a list of types, by letters, else attention and experts, as in the class."""
    listed, letters = (said.config.get(key) for key in _MIXERS)
    if isinstance(letters, str):
        spelled = [_LETTERS.get(letter) for letter in letters[:_MOST_MIXERS]]
        if isinstance(listed, list):
            meant = [_OLDER.get(kind, kind) if isinstance(kind, str) else kind for kind in listed]
            refuse_unlike(said, _MIXERS[0], meant, _MIXERS[1], spelled)
        listed = spelled if listed is None else listed
    types = [FULL, "moe"] if listed is None else listed
    if not isinstance(types, list) or not 0 < len(types) <= _MOST_MIXERS:
        said.fail(_MIXERS[0], "must be a list of types of layers", listed)
    found = [_OLDER.get(kind, kind) for kind in types if isinstance(kind, str)]
    once = len({"mlp" if kind == "moe" else kind for kind in found}) == len(types)
    return found if once and {*found} <= {*_NAMES} else []


def _say_modules(layer: Mapping[str, Any], _n: int, draft: Draft) -> None:
    branches = layer.get("branches") or [{"mixer": layer.get(name, {})} for name in ("attention", "mlp")]
    kinds = [OneMixer().candidates({"branches": [one]})[0] for one in branches]
    draft.put(_MIXERS[0], kinds)


_MIXERS = ("mtp_layers_block_type", "mtp_hybrid_override_pattern")
_MOST_MIXERS = 16
"""Of a layer of a spec."""

_ALL = (
    Family(
        "nemotron_h",
        "NemotronHConfig",
        ("NemotronHForCausalLM", "NemotronHModel"),
        {
            "vocab_size": 131072,
            "hidden_size": 4096,
            "layers_block_type": None,
            "hybrid_override_pattern": None,
            "num_hidden_layers": None,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 4096,
            "intermediate_size": 21504,
            "mlp_hidden_act": "relu2",
            "mlp_bias": False,
            "ssm_state_size": 128,
            "mamba_num_heads": 128,
            "mamba_head_dim": 64,
            "mamba_hidden_act": "silu",
            "n_groups": 8,
            "conv_kernel": 4,
            "time_step_min": 0.001,
            "use_conv_bias": True,
            "use_bias": False,
            "chunk_size": 128,
            "n_routed_experts": 8,
            "moe_intermediate_size": 7688,
            "moe_shared_expert_intermediate_size": 7688,
            "moe_latent_size": None,
            "num_experts_per_tok": 2,
            "routed_scaling_factor": 1.0,
            "n_group": 1,
            "topk_group": 1,
            "norm_topk_prob": True,
            "layer_norm_epsilon": 1e-5,
        },
        ByLayer(
            {
                RECURRENT: _one("mamba2", _MAMBA),
                "moe": _one("mlp", _EXPERTS),
                FULL: _one("attention", _ATTENTION),
                "mlp": _one("mlp", _MLP),
            }
        ),
        decoder(_NORM, unembedding={"tied": False}),
        OneMixer(),
        aliases={
            "layers_block_type": ("layer_types",),
            "head_dim": ("attention_head_dim",),
            "n_groups": ("mamba_n_groups",),
            "conv_kernel": ("mamba_d_conv",),
            "time_step_min": ("mamba_dt_min",),
            "use_conv_bias": ("mamba_conv_bias",),
            "chunk_size": ("mamba_chunk_size",),
            "n_routed_experts": ("num_local_experts",),
        },
        only={
            "tie_word_embeddings": ((False,), "transformers' class has a head of its own, whatever is said"),
            "sliding_window": ((None,), "windows are not supported in this family"),
        },
        ignored=(
            *TRAINING,
            *KERNELS,
            *START,
            *("expand", "mamba_expand", "time_step_limit", "mamba_dt_limit", "mamba_dt_max", "mamba_dt_init_floor"),
            *(
                "attention_bias",
                "attention_head_dim",
                "mamba_proj_bias",
                "n_shared_experts",
                "norm_eps",
                "rms_norm_eps",
            ),
            *("partial_rotary_factor", "rope_theta", "moe_shared_expert_overlap"),
        ),
        checks=(groups_share,),
        modules=Modules(("num_nextn_predict_layers",), _modules, _MIXERS, _say_modules),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
