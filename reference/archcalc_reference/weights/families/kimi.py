"""The names of checkpoints with Kimi delta attention: Kimi Linear's and Ling 3's, as transformers' models have them.

Their files have a tensor for each convolution, and name what decays by itself as a part of the attention.
"""

from __future__ import annotations

from archcalc_reference.weights.families.family import Family, Fused
from archcalc_reference.weights.families.latent import FUSED, INSIDE
from archcalc_reference.weights.families.llama import EXPERTS, LLAMA, mixture

_OURS, _THEIRS = "linear_attention", "self_attn"
_NAMES = {
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "share": "b_proj",
    "step_bias": "forget_gate.dt_bias",
    "decay": "forget_gate.A_log",
    "norm": "o_norm",
    "output": "o_proj",
}
_CONVOLVED = ("query_conv", "key_conv", "value_conv")
_FUSED = {
    **FUSED,
    f"{_THEIRS}.conv1d": Fused(tuple(f"{_OURS}.{name}" for name in _CONVOLVED)),
    "mlp.experts.gate_up_proj": EXPERTS,
}
_EACH = {f"{_OURS}.{name}.weight": f"{_THEIRS}.{name[0]}_conv1d.weight" for name in _CONVOLVED}
_W = {"gate": "w1", "up": "w3", "down": "w2"}


def _inside(**more: str) -> dict[str, str]:
    return {
        **INSIDE,
        "mlp.correction": "mlp.gate.e_score_correction_bias",
        f"{_OURS}_norm": "input_layernorm",
        **{f"{_OURS}.{ours}": f"{_THEIRS}.{theirs}" for ours, theirs in {**_NAMES, **more}.items()},
    }


_KIMI = mixture(
    "kimi_linear",
    shared="shared_experts",
    inside=_inside(
        step_latent="forget_gate.f_a_proj",
        step="forget_gate.f_b_proj",
        output_gate_latent="g_a_proj",
        output_gate="g_b_proj",
    ),
    lifted={f"{_OURS}.decay": (2, 1)},
)
_LING = mixture(
    "bailing_hybrid",
    shared="shared_experts",
    inside=_inside(step="forget_gate.f_proj", output_gate="g_proj") | {"attention.output_gate": f"{_THEIRS}.g_proj"},
)
FAMILIES: tuple[Family, ...] = (
    _KIMI.but(
        "kimi_linear",
        fused=_FUSED,
        each={**_EACH, **{f"mlp.experts.{ours}.weight": f"mlp.experts.{{h}}.{w}.weight" for ours, w in _W.items()}},
        older=(
            *LLAMA.older,
            (r"\.self_attn\.(f_[ab]_proj|dt_bias|A_log)", r".self_attn.forget_gate.\1"),
            (r"\.block_sparse_moe\.", ".mlp."),
        ),
    ),
    _LING.but(
        "bailing_hybrid",
        fused=_FUSED,
        each=_EACH,
        older=(
            *LLAMA.older,
            (r"^(model\.)?word_embeddings\.", "model.embed_tokens."),
            (r"\.attention\.", ".self_attn."),
            (r"\.self_attn\.(f_proj|dt_bias|A_log)", r".self_attn.forget_gate.\1"),
            (r"\.self_attn\.dense\.", ".self_attn.o_proj."),
            (r"\.mlp\.gate\.expert_bias", ".mlp.gate.e_score_correction_bias"),
        ),
    ),
)
