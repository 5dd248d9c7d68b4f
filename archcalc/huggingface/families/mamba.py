"""Layers of Mamba: by themselves, as in Mamba, Mamba-2 and Falcon Mamba, and among attention and experts in Jamba."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.convolving import NO_LIMIT
from archcalc.huggingface.families.hybrids import KERNELS, START, divided, mamba2
from archcalc.huggingface.families.llama import ATTENTION, GATED
from archcalc.huggingface.families.mixtures import TRAINING, ByMixture, experts
from archcalc.huggingface.family import Family, decoder, rmsnorm, sizes, without
from archcalc.huggingface.hybrid import RECURRENT, Mixed, SparseMixed, both_kinds, branch
from archcalc.huggingface.layers import FULL
from archcalc.huggingface.leaves import Activation, Draft, Flag, Leaf, Made, Mismatch, Size
from archcalc.huggingface.rope import KEYS as ROPE
from archcalc.huggingface.said import MOST_LAYERS, Said


def _rank(key: str) -> Leaf:
    """The features that steps are made of: a 16th of the width where the config says "auto"."""

    def read(said: Said) -> int:
        if said.value(key) == "auto":
            return -(-said.size("hidden_size") // 16)
        return said.size(key)

    return Made(read, lambda value, draft: draft.put(key, value))


def _mamba(
    d_inner: Leaf, d_state: str, d_conv: str, rank: str, bias: str, conv_bias: str, norm: Any
) -> dict[str, Any]:
    """Mamba by the keys of a config."""
    return {
        "kind": "mamba",
        "d_inner": d_inner,
        "d_state": Size(d_state),
        "d_conv": Size(d_conv),
        "step_rank": _rank(rank),
        "activation": Activation("hidden_act"),
        "bias": Flag(bias),
        "conv_bias": Flag(conv_bias),
        "norm": norm,
    }


def _inner(said: Said) -> int:
    if said.says("intermediate_size"):
        return said.size("intermediate_size")
    return said.size("expand") * said.size("hidden_size")


def _of_any_length(taken: int) -> Leaf:
    """A context that no config of such a family says, since a state has one size."""

    def read(said: Said) -> int:
        if said.says("max_position_embeddings"):
            return said.size("max_position_embeddings")
        said.value("max_position_embeddings", counts=False)
        said.assume(
            f"config.json says no length of context, which a state of one size does not bound; {taken:,} is taken "
            "(SPEC@context_length=N takes another)"
        )
        return taken

    return Made(read, lambda value, draft: draft.put("max_position_embeddings", value))


_NORM = rmsnorm("layer_norm_epsilon")
_OWN = ("state_size", "conv_kernel", "time_step_rank", "use_bias", "use_conv_bias")
_INNER = Made(_inner, lambda value, draft: draft.put("intermediate_size", value))
_SIZES: dict[str, Any] = {
    "vocab_size": 50280,
    "hidden_size": 768,
    "state_size": 16,
    "num_hidden_layers": 32,
    "layer_norm_epsilon": 1e-5,
    "expand": 2,
    "conv_kernel": 4,
    "use_bias": False,
    "use_conv_bias": True,
    "hidden_act": "silu",
    "time_step_rank": "auto",
    "tie_word_embeddings": True,
    "initializer_range": 0.1,
    "max_position_embeddings": None,
    "intermediate_size": None,
}
_IGNORED = (
    *KERNELS,
    *START,
    *("time_step_scale", "time_step_min", "time_step_init_scheme"),
    *("use_mambapy", "use_falcon_mambapy", "use_associative_scan"),
)
_OLD = {"hidden_size": ("d_model",), "num_hidden_layers": ("n_layer",)}
_OLD_IGNORED = ("d_inner", "fused_add_norm", "rms_norm", "pad_vocab_size_multiple")


def _alone(context: int) -> dict[str, Any]:
    return {**decoder(_NORM), "context_length": _of_any_length(context)}


def _one(name: str, mixer: Any) -> dict[str, Any]:
    return {"branches": [branch(name, mixer, _NORM)]}


def _expanded(said: Said) -> int:
    return said.size("mamba_expand") * said.size("hidden_size")


def _say_expanded(value: Any, draft: Draft) -> None:
    if value is None or value % draft.d_model:
        raise Mismatch("mamba.d_inner")
    draft.put("mamba_expand", value // draft.d_model)


def _d_head(said: Said) -> int:
    heads, d_head = said.size("num_heads"), said.size("head_dim")
    inner = said.size("expand") * said.size("hidden_size")
    if heads * d_head != inner:
        said.fail("num_heads", f"x head_dim must be expand x hidden_size ({inner:,})", heads)
    return d_head


def _say_d_head(value: Any, draft: Draft) -> None:
    draft.put("head_dim", value)
    inner = (value or 0) * (draft["num_heads"] or 0)
    if not inner or inner % draft.d_model:
        raise Mismatch("mamba2.d_head")
    draft.put("expand", inner // draft.d_model)


def _periodic(what: str, said: Said, n: int) -> list[bool]:
    """Each so-many-th layer, from an offset on."""
    period, offset = said.size(f"{what}_layer_period"), said.size(f"{what}_layer_offset", least=0)
    if offset >= period:
        said.fail(f"{what}_layer_offset", f"must be less than {what}_layer_period ({period:,})", offset)
    return [i % period == offset for i in range(n)]


def _say_periodic(what: str, there: list[bool], draft: Draft) -> None:
    at = [i for i, one in enumerate(there) if one]
    period = at[1] - at[0] if len(at) > 1 else len(there) + 1
    offset = at[0] if at else len(there)
    if there != [i % period == offset for i in range(len(there))]:
        raise Mismatch("layers")
    draft.put(f"{what}_layer_period", period)
    draft.put(f"{what}_layer_offset", offset)


class _Periodic(Mixed):
    """Jamba's layers: Mamba, and each so-many-th attention."""

    def types(self, said: Said) -> list[str]:
        n = said.size(self.count, most=MOST_LAYERS)
        return [FULL if there else RECURRENT for there in _periodic("attn", said, n)]

    def write(self, types: list[str], draft: Draft) -> None:
        draft.put(self.count, len(types))
        _say_periodic("attn", [kind == FULL for kind in types], draft)


def _dense(said: Said, n: int) -> list[bool]:
    several = said.size("num_experts") > 1
    return [not (one and several) for one in _periodic("expert", said, n)]


def _say_dense(dense: list[bool], draft: Draft) -> None:
    if all(dense):
        draft.put("num_experts", 1)
    elif draft["num_experts"] == 1:
        raise Mismatch("mlp.n_experts")
    _say_periodic("expert", [not one for one in dense], draft)


_ALL = (
    Family(
        "mamba",
        "MambaConfig",
        ("MambaForCausalLM", "MambaModel"),
        _SIZES,
        _one("mamba", _mamba(_INNER, *_OWN, None)),
        _alone(2048),
        aliases=_OLD,
        only={"ssm_cfg": (({}, None), "settings of its own are not supported yet")},
        ignored=(*_IGNORED, *_OLD_IGNORED),
    ),
    Family(
        "falcon_mamba",
        "FalconMambaConfig",
        ("FalconMambaForCausalLM", "FalconMambaModel"),
        {**_SIZES, "mixer_rms_eps": 1e-6},
        _one("mamba", _mamba(_INNER, *_OWN, rmsnorm("mixer_rms_eps", gain=False))),
        _alone(8192),
        ignored=_IGNORED,
    ),
    Family(
        "jamba",
        "JambaConfig",
        ("JambaForCausalLM", "JambaModel"),
        without(
            sizes(
                *(65536, 4096, 14336, 32, 32, 8, 262144),
                num_experts=16,
                num_experts_per_tok=2,
                expert_layer_period=2,
                expert_layer_offset=1,
                attn_layer_period=8,
                attn_layer_offset=4,
                mamba_d_state=16,
                mamba_d_conv=4,
                mamba_expand=2,
                mamba_dt_rank="auto",
                mamba_conv_bias=True,
                mamba_proj_bias=False,
            ),
            *ROPE,
        ),
        both_kinds(
            without(ATTENTION, "rotary"),
            *(RECURRENT, "mamba"),
            _mamba(
                Made(_expanded, _say_expanded),
                *("mamba_d_state", "mamba_d_conv", "mamba_dt_rank", "mamba_proj_bias", "mamba_conv_bias"),
                rmsnorm(),
            ),
            ByMixture(experts("num_experts", "intermediate_size", {"scores": "softmax", "normalized": False}), GATED),
            rmsnorm(),
        ),
        decoder(rmsnorm()),
        SparseMixed(_Periodic(lambda _, n: [""] * n, {FULL: "attention", RECURRENT: "mamba"}), _dense, _say_dense),
        aliases={"num_experts": ("num_local_experts",)},
        only={"sliding_window": ((None,), "windows are not supported in this family")},
        ignored=(*TRAINING, *_IGNORED, "layers_block_type", "layers_num_experts"),
    ),
    Family(
        "mamba2",
        "Mamba2Config",
        ("Mamba2ForCausalLM", "Mamba2Model"),
        without(
            {
                **_SIZES,
                "num_heads": 128,
                "head_dim": 64,
                "vocab_size": 32768,
                "hidden_size": 4096,
                "state_size": 128,
                "num_hidden_layers": 64,
                "n_groups": 8,
                "chunk_size": 256,
                "tie_word_embeddings": False,
            },
            *("intermediate_size", "time_step_rank"),
        ),
        _one(
            "mamba2",
            mamba2(
                Size("num_heads"),
                Made(_d_head, _say_d_head),
                Size("state_size"),
                n_groups=divided("n_groups", "num_heads"),
            ),
        ),
        _alone(2048),
        only={"time_step_limit": NO_LIMIT},
        ignored=(*_IGNORED, "intermediate_size", "rms_norm", "norm_before_gate"),
    ),
)
FAMILIES = {one.model_type: one for one in _ALL}
