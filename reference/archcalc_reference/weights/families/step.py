"""The names of Step's checkpoints: Llama's, with experts whose gate and up projections stand apart in its files."""

from __future__ import annotations

from archcalc_reference.weights.families.family import Family
from archcalc_reference.weights.families.llama import LLAMA, mixture

FAMILIES: tuple[Family, ...] = (
    mixture(
        "step3p5",
        shared="shared_experts",
        inside={
            "attention.output_gate": "self_attn.g_proj",
            "mlp.correction": "mlp.gate.e_score_correction_bias",
        },
        each={f"mlp.experts.{name}.weight": f"mlp.experts.{name}_proj" for name in ("gate", "up")},
        older=(
            *LLAMA.older,
            (r"\.moe\.gate\.weight", ".mlp.gate.weight"),
            (r"\.moe\.router_bias", ".mlp.gate.e_score_correction_bias"),
            (r"\.moe\.(gate|up|down)_proj\.weight", r".mlp.experts.\1_proj"),
            (r"\.share_expert\.", ".mlp.shared_experts."),
        ),
    ),
)
