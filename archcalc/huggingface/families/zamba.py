"""Zamba2: layers of Mamba-2, to some of which blocks that several of them share add what they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from archcalc.huggingface.families.hybrids import divided, mamba2
from archcalc.huggingface.families.llama import GATED
from archcalc.huggingface.family import HEADS, KV_HEADS, Family, decoder, rmsnorm
from archcalc.huggingface.hybrid import RECURRENT, branch
from archcalc.huggingface.layers import Kinds
from archcalc.huggingface.leaves import ByLayer, Draft, Flag, Made, Mismatch, Number, Size, Times
from archcalc.huggingface.rope import KEYS as ROPE
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import MOST_LAYERS, Said

HYBRID = "hybrid"
_OLDER = {"mamba": RECURRENT, "attention": HYBRID}
_TYPES = "layers_block_type"
_BY_DEFAULT = (
    *[RECURRENT] * 6,
    *(HYBRID, *[RECURRENT] * 5) * 6,
    *(HYBRID, *[RECURRENT] * 4),
    *(HYBRID, *[RECURRENT] * 3),
    *(HYBRID, *[RECURRENT] * 2),
)
"""The layers of the class where a config has no list of them."""
_LONG = 16_384
"""The context that `use_long_context` gives, whatever else is said."""


class InTurn(Kinds):
    """A list of types; the layers of type hybrid use the shared blocks in turn, of which the type says the name."""

    def types(self, said: Said) -> list[str]:
        n, blocks = said.size(self.count, most=MOST_LAYERS), said.size("num_mem_blocks", most=MOST_LAYERS)
        listed = said.value(_TYPES, counts=False)
        found = _BY_DEFAULT if listed is None else listed
        if listed is None and n != len(_BY_DEFAULT):
            said.fail(self.count, f"must be {len(_BY_DEFAULT)} where there is no {_TYPES}", n)
        if not isinstance(found, list | tuple) or len(found) != n:
            said.fail(_TYPES, f"must be a list with a type for each of {n:,} layers", listed)
        uses = 0
        types: list[str] = []
        for one in found:
            kind = _OLDER.get(one, one) if isinstance(one, str) else one
            if kind not in (RECURRENT, HYBRID):
                said.fail(_TYPES, "has an unknown type of layer", one)
            types.append(f"{HYBRID}/block_{uses % blocks}" if kind == HYBRID else kind)
            uses += kind == HYBRID
        return types

    def name(self, layer: str) -> str:
        kind, _, block = layer.partition("/")
        return f"{HYBRID}_{block.rpartition('_')[2]}" if kind == HYBRID else "mamba2"

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:
        added = [one["added"] for one in layer.get("branches", ()) if one.get("added")]
        return [f"{HYBRID}/{added[0].get('block')}"] if added else [RECURRENT]

    def write(self, types: list[str], draft: Draft) -> None:
        super().write(types, draft)
        used = [kind.partition("/")[2] for kind in types if kind != RECURRENT]
        blocks = list(dict.fromkeys(used))
        if used != [blocks[i % len(blocks)] for i in range(len(used))]:
            raise Mismatch("layers")
        draft.put("num_mem_blocks", len(blocks) or 1)
        draft.put(_TYPES, [kind.partition("/")[0] for kind in types])


def _d_head(said: Said) -> int:
    return 2 * said.size("hidden_size") // said.size("num_attention_heads")


def _scale(said: Said) -> float:
    """Of half the features of a head, since half of what the attention reads is the tokens' own."""
    found: float = (_d_head(said) / 2) ** -0.5
    return found


def _inner(said: Said) -> int:
    """Channels of Mamba-2; the class takes the whole part of the product."""
    return int(said.number("mamba_expand", counts=True) * said.size("hidden_size"))


def _head_of_state(said: Said) -> int:
    inner, heads = _inner(said), said.size("n_mamba_heads")
    if inner < 1 or inner % heads:
        said.fail("n_mamba_heads", f"must divide mamba_expand x hidden_size ({inner:,})", heads)
    return inner // heads


def _say_head_of_state(value: Any, draft: Draft) -> None:
    inner = (value or 0) * (draft.get("n_mamba_heads") or 0)
    if not inner or inner % draft.d_model:
        raise Mismatch("mamba2.d_head")
    draft.put("mamba_expand", inner // draft.d_model)


def _context(said: Said) -> int:
    return _LONG if said.flag("use_long_context") else said.size("max_position_embeddings")


def _adapted(said: Said) -> None:
    """Adapters of keys are as wide as those of queries in the class."""
    if said.flag("use_shared_attention_adapter"):
        wide, made = 2 * said.size("hidden_size"), _d_head(said) * KV_HEADS.read(said)
        if made != wide or _d_head(said) * said.size("num_attention_heads") != wide:
            what = f"must be false where keys have other features than 2 x hidden_size ({wide:,})"
            said.fail("use_shared_attention_adapter", what, value=True)


def _computed(said: Said) -> None:
    """Sizes that the class works out, and takes as they are said where a config says them."""
    expected: dict[str, Callable[[Said], int]] = {
        "mamba_headdim": _head_of_state,
        "attention_head_dim": _d_head,
        "attention_hidden_size": lambda said: 2 * said.size("hidden_size"),
    }
    for key, size in expected.items():
        if said.says(key) and said.size(key) != size(said):
            said.fail(key, f"must be {size(said):,}, which the other sizes make it", said.config.get(key))


_WIDTH = Made(_d_head)
_NORM = rmsnorm()
_MAMBA2 = mamba2(
    Size("n_mamba_heads"),
    Made(_head_of_state, _say_head_of_state),
    Size("mamba_d_state"),
    n_groups=divided("mamba_ngroups", "n_mamba_heads"),
    d_conv=Size("mamba_d_conv"),
    activation="silu",
    bias=Flag("add_bias_linear"),
    conv_bias=True,
    norm={"kind": "rmsnorm", "epsilon": 1e-5},
    least_step=Number("time_step_min", neutral=0.0),
)
_SHARED = {
    "block": Made(lambda said: said.layer.partition("/")[2]),
    "norm": _NORM,
    "attention": {
        "kind": "multi_head",
        "n_heads": HEADS,
        "n_kv_heads": KV_HEADS,
        "d_head": _WIDTH,
        "bias": False,
        "scale": Made(_scale),
        "rotary": Flag("use_mem_rope", {False: None, True: Rotary(_WIDTH)}),
    },
    "mlp_norm": _NORM,
    "mlp": {**GATED, "d_ff": Size("intermediate_size", Times(4, "hidden_size")), "bias": Flag("add_bias_linear")},
    "attention_adapter": Flag("use_shared_attention_adapter", {False: None, True: Size("adapter_rank")}),
    "mlp_adapter": Size("adapter_rank"),
}

_ALL = (
    Family(
        "zamba2",
        "Zamba2Config",
        ("Zamba2ForCausalLM", "Zamba2Model"),
        {
            **ROPE,
            "vocab_size": 32000,
            "max_position_embeddings": 4096,
            "hidden_size": 2560,
            "num_hidden_layers": 54,
            _TYPES: None,
            "mamba_d_state": 64,
            "mamba_d_conv": 4,
            "mamba_expand": 2,
            "mamba_ngroups": 1,
            "time_step_min": 0.001,
            "n_mamba_heads": 8,
            "chunk_size": 256,
            "add_bias_linear": False,
            "intermediate_size": None,
            "hidden_act": "gelu",
            "num_attention_heads": 32,
            "num_key_value_heads": None,
            "num_mem_blocks": 1,
            "use_shared_attention_adapter": False,
            "adapter_rank": 128,
            "use_mem_rope": False,
            "rms_norm_eps": 1e-5,
            "use_long_context": False,
            "mamba_headdim": None,
            "attention_head_dim": None,
            "attention_hidden_size": None,
        },
        ByLayer(
            {
                RECURRENT: {"branches": [branch("mamba2", _MAMBA2, _NORM)]},
                HYBRID: {"branches": [{**branch(HYBRID, _MAMBA2, _NORM), "added": _SHARED}]},
            }
        ),
        {
            **decoder(_NORM, unembedding={"tied": True}),
            "context_length": Made(_context, lambda value, draft: draft.put("max_position_embeddings", value)),
        },
        InTurn(),
        aliases={_TYPES: ("layer_types",), "attention_head_dim": ("head_dim",)},
        only={
            "use_shared_mlp_adapter": ((True, None), "shared MLPs without adapters are not what transformers builds"),
            "tie_word_embeddings": ((True,), "must be true: without it transformers unties shared blocks too"),
        },
        ignored=(
            *("use_mamba_kernels", "use_mem_eff_path", "use_conv_bias", "num_logits_to_keep"),
            *("time_step_max", "time_step_floor", "kv_channels", "num_query_groups", "ffn_hidden_size"),
            "hybrid_layer_ids",
        ),
        checks=(_adapted, _computed),
    ),
)
FAMILIES = {one.model_type: one for one in _ALL}
