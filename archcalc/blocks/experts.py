"""Mixtures of experts: of many MLPs each vector goes through the few that a router chooses for it.

The router scores all experts; the chosen ones compute, and what they make is added up, each by its weight. Routing is
taken to be balanced wherever a count would depend on it; parameters do not, and FLOPs and saved bytes only where some
experts compute nothing.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field
from pydantic_core import PydanticCustomError

from archcalc.blocks import activation, dealing
from archcalc.blocks.activation import ACTIVATION, CUT, Activation, Cut
from archcalc.blocks.base import Count
from archcalc.blocks.constraints import AtMost, Constraint, Divides, LeavesEnough, Needs, Without
from archcalc.blocks.dealing import Dealt
from archcalc.blocks.mlp import MLP, DenseMLP
from archcalc.blocks.norm import Norm
from archcalc.blocks.router import Positive, Router
from archcalc.blocks.shrinking import Shrinking, small
from archcalc.tape.legend import Cuts, Env, Mask, Size, least
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape
from archcalc.tape.run import Run
from archcalc.units import grouped, several

_MOST_TIMES = 4


class WeighsOutputs(Constraint):
    """Only where the weights multiply what experts make: an empty slot counts for nothing by its weight."""

    def holds(self, size: Any, block: Any) -> Mask:
        return size is None or block.router.weighs == "output"

    def reason(self, name: str) -> str:
        return f"{name} needs weights of outputs"

    def error(self, name: str, size: Any, block: Any) -> PydanticCustomError:  # noqa: ARG002
        context = {"field": name, "fix": "leave it out, or let router.weighs be output"}
        return PydanticCustomError("constraint", "must be null where the router weighs inputs", context)

    def allowed(self, data: dict[str, Any], most: int) -> list[Any] | None:  # noqa: ARG002
        return None if data["router"]["weighs"] == "output" else [None]


class Experts(MLP):
    """Shazeer et al. 2017, arXiv:1701.06538, as in Mixtral, arXiv:2401.04088; with a shared one as in DeepSeekMoE,
    arXiv:2401.06066.
    """

    kind: Literal["experts"] = "experts"
    n_experts: Count = Field(description="experts that a router chooses from")
    n_experts_per_token: Annotated[Count, AtMost("n_experts")] = Field(
        description="experts that a vector goes through"
    )
    n_identity: Count | None = Field(
        default=None,
        description="experts without weights beside these, which hand on what they get: a router chooses from all; "
        "null: none (LongCat-Flash)",
    )
    d_ff: Count = Field(description="hidden features of an expert")
    gated: bool = Field(description="whether an expert is a gated MLP")
    activation: Activation = Field(description=ACTIVATION)
    cut: Annotated[Cut | None, Needs("gated")] = Field(default=None, description=CUT)
    bias: bool = Field(default=False, description="whether all projections of an expert have biases (gpt-oss)")
    router: Router = Field(description="how experts are chosen")
    capacity_factor: Annotated[Positive | None, Without("n_identity", None), WeighsOutputs()] = Field(
        default=None,
        description="slots of each expert's buffer in training and prefill, as a multiple of its even share of the "
        "vectors; those beyond are dropped, the least weighed first; null: no buffer is ever full",
    )
    d_latent: Count | None = Field(
        default=None,
        description="features of the narrower vectors that experts work on, between two projections that all share; "
        "null: d_model (Nemotron 3)",
    )
    latent_bias: Annotated[bool, Needs("d_latent", idle=False)] = Field(
        default=False, description="whether those two projections have biases"
    )
    n_groups: Annotated[Count | None, Divides("n_experts"), Without("n_identity", None)] = Field(
        default=None, description="groups of experts, of which the best are left to choose from; null: all are one"
    )
    n_groups_chosen: Annotated[
        Count | None,
        AtMost("n_groups"),
        Needs("n_groups"),
        LeavesEnough("n_experts", "n_groups", "n_experts_per_token"),
    ] = Field(default=None, description="groups that are left (DeepSeek-V3: 4 of 8); null: all")
    shared: DenseMLP | None = Field(default=None, description="an MLP that every vector goes through; null: none")
    shared_gate: Annotated[bool, Needs("shared", idle=False)] = Field(
        default=False,
        description="whether what it makes is multiplied by the sigmoid of a learned product (Qwen2-MoE)",
    )
    shared_average: Annotated[bool, Needs("shared", idle=False)] = Field(
        default=False, description="whether what it makes and what the chosen make are averaged, not added (Cohere)"
    )
    experts_norm: Norm | None = Field(default=None, description="a norm of what experts read; null: none")
    experts_post_norm: Norm | None = Field(default=None, description="a norm of what the chosen make; null: none")
    shared_norm: Annotated[Norm | None, Needs("shared")] = Field(
        default=None, description="a norm of what the shared MLP reads; null: none"
    )
    shared_post_norm: Annotated[Norm | None, Needs("shared")] = Field(
        default=None, description="a norm of what it makes; null: none"
    )

    labels: ClassVar[Mapping[str, str]] = {
        "E": "experts (n_experts)",
        "J": "experts that a vector goes through (n_experts_per_token)",
        "I": "hidden features of an expert (d_ff)",
        "idle": "experts that hand on what they get (n_identity)",
        "scored": "experts that a router scores (n_experts), those that hand on among them",
        "busy": "experts of a vector that compute, under balanced routing and rounded up",
        "narrow": "features of the vectors that experts work on (d_latent)",
        "C": "slots of an expert's buffer",
        "sent": "vectors that tokens send to experts, each as often as it has experts, or to slots of all buffers",
        "M": "vectors that experts compute, each as often as it has experts, or slots of all buffers",
    }
    copies: ClassVar[tuple[str, ...]] = ("E", "J")
    derives: ClassVar[tuple[str, ...]] = ("sent", "M", "scored", "busy", "C")
    cuts: ClassVar[Cuts | None] = {"ep": (("E",),), "etp": (("I",),), "tp": (("F",),)}
    gathers: ClassVar[bool] = False
    factors: ClassVar[tuple[str, ...]] = ("cut", "capacity_factor")

    def summary(self) -> str:
        shared = f" + shared {self.shared.summary()}" if self.shared else ""
        idle = f" and {grouped(self.n_identity)} that hand on" if self.n_identity else ""
        full = f" (capacity {self.capacity_factor:g})" if self.capacity_factor else ""
        latent = f" over latents of {grouped(self.d_latent)}" if self.d_latent else ""
        return (
            f"{several(self.n_experts, 'expert')}{idle}, {grouped(self.n_experts_per_token)} a token{full}, of "
            f"{'gated ' * self.gated}d_ff {grouped(self.d_ff)} ({self.activation}){' + biases' * self.bias}{latent}"
            f"{shared}"
        )

    def small(self, shrinking: Shrinking) -> Self:
        """Few experts, two of a group at least; what is shared is as many times an expert as before."""
        groups = None if self.n_groups is None else min(self.n_groups, 4)
        experts = min(self.n_experts, 4) if groups is None else groups * min(self.n_experts // (self.n_groups or 1), 2)
        idle = self.n_identity and max(experts * self.n_identity // self.n_experts, 1)
        chosen = None if self.n_groups_chosen is None else min(self.n_groups_chosen, groups or 1)
        d_ff, shared = shrinking.size("d_ff", self.d_ff, 40), small(self.shared, shrinking)
        if self.shared is not None:
            times, rest = divmod(self.shared.d_ff, self.d_ff)
            if not rest and times <= _MOST_TIMES:
                shared = shared.model_copy(update={"d_ff": times * d_ff})
        update = {
            "n_experts": experts,
            "n_experts_per_token": min(self.n_experts_per_token, 3 if idle else 2, experts),
            "n_identity": idle,
            "d_ff": d_ff,
            "d_latent": shrinking.optional("d_latent", self.d_latent, 14),
            "n_groups": groups,
            "n_groups_chosen": chosen,
            "shared": shared,
        }
        return self.model_copy(update=update)

    def sizes(self) -> Env:
        own = {"E": self.n_experts, "J": self.n_experts_per_token, "I": self.d_ff}
        narrow = {} if self.d_latent is None else {"narrow": self.d_latent}
        idle = {} if self.n_identity is None else {"idle": self.n_identity}
        return {**own, **idle, **narrow, **(self.shared.sizes() if self.shared else {})}

    def derived(self, env: Env, run: Run) -> Env:
        vectors = env["B"] * env["S"]
        if self._drops(run):
            share = Fraction(str(self.capacity_factor))
            slots = -(-(share.numerator * vectors * env["J"]) // (share.denominator * env["E"]))
            slots = least(slots, vectors)
            return {"scored": env["E"], "C": slots, "sent": env["E"] * slots, "M": env["E"] * slots}
        if self.n_identity is None:
            return {"scored": env["E"], **_rows(env, env["J"])}
        scored = env["E"] + env["idle"]
        busy = -(-(env["J"] * env["E"]) // scored)  # each choice is as likely as any other
        return {"scored": scored, "busy": busy, **_rows(env, busy)}

    def _drops(self, run: Run) -> bool:
        """Whether buffers may be full: a new token finds room."""
        return self.capacity_factor is not None and run.phase != "decode"

    def assumed(self) -> str | None:
        if self.capacity_factor is not None:
            return (
                f"experts compute {self.capacity_factor:g} x their even share of the tokens, empty slots too, in "
                f"training and prefill; a token that finds no slot is dropped, and decode drops none; active "
                f"parameters are those of {several(self.n_experts_per_token, 'expert')} a token all the same"
            )
        if self.n_identity is None:
            return None
        _, mean, most = self.computing
        whole = (most * self.n_experts) % (self.n_experts + self.n_identity) == 0
        return (
            f"balanced routing (modelled): of a token's {several(most, 'expert')} {grouped(mean)} compute on average"
            f"{', rounded up' * (not whole)}, and the others hand on what they get"
        )

    @property
    def computing(self) -> tuple[int, int, int]:
        """The fewest of a vector's experts that compute, as many as are counted, and the most."""
        chosen, idle = self.n_experts_per_token, self.n_identity or 0
        return max(chosen - idle, 0), -(-chosen * self.n_experts // (self.n_experts + idle)), chosen

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        weights, chosen = self._route(tape, _normed(tape, "router_norm", self.router.norm, x))
        read = _normed(tape, "experts_norm", self.experts_norm, x)
        if self.d_latent is None:
            y = self._mixed(tape, read, weights, chosen, "D")
        else:
            bias = self.latent_bias
            latent = tape.linear("latent", "B N narrow", read, "narrow D", part="expert_latents", bias=bias)
            made = self._mixed(tape, latent, weights, chosen, "narrow")
            y = tape.linear("from_latent", "B N D", made, "D narrow", part="expert_latents", bias=bias)
        y = _normed(tape, "experts_post_norm", self.experts_post_norm, y)
        if self.shared is None:
            return y
        read = _normed(tape, "shared_norm", self.shared_norm, x)
        with tape.scope("shared"):
            always = self.shared.record(tape, tape.view(read, N="S"))
        always = _normed(tape, "shared_post_norm", self.shared_post_norm, always)
        if self.shared_gate:
            gate = tape.linear("shared_gate", "B N unit", x, "unit D", part="router", bias=False)
            share = tape.pointwise("share", gate, keeps=True)
            always = tape.pointwise("shared_by_gate", always, share, saves=(always, share), scratch=1)
        y = tape.sum("all", y, always)
        return tape.pointwise("average", y) if self.shared_average else y

    def _mixed(self, tape: Tape, x: Tensor, weights: Tensor, chosen: Tensor, features: str) -> Tensor:
        """What the chosen experts make of each vector, added up by weight."""
        deal = dealing.to_all if self.n_identity is None else dealing.beside_identity
        deal = dealing.within_capacity if self._drops(tape.run) else deal
        with tape.scope("experts"):
            return deal(tape, Dealt(x, weights, chosen, features, self.router.weighs), self._compute)

    def _route(self, tape: Tape, x: Tensor) -> tuple[Tensor, Tensor]:
        """How much each chosen expert counts, and which they are, both B N J."""
        logits = tape.linear("router", "B N scored", x, "scored D", part="router", bias=self.router.bias)
        with tape.span("routing"):
            scores = logits if self.router.score_scale is None else tape.pointwise("scaled_scores", logits)
            scores = tape.convert("full_precision", scores, role="float")
            if self.router.scores == "softmax":
                scores = tape.softmax(scores, over="scored", role="float")
            elif self.router.scores == "sigmoid":
                scores = tape.pointwise("sigmoid", scores, role="float", keeps=True)
            if self.router.correction:
                tape.pointwise("corrected", scores, tape.buffer("correction", "scored"), role="float")
            chosen = tape.choose("chosen", scores, "B N J")
            weights = tape.lookup("weights", "B N J", chosen, scores, role="float", saves=(scores,))
            if self.router.scores == "softmax_of_chosen":
                weights = tape.softmax(weights, over="J", role="float")
            elif self.router.scores == "sigmoid_of_chosen":
                weights = tape.pointwise("sigmoid", weights, role="float", keeps=True)
            if self.router.normalized:
                total = tape.reduce("total", weights, "J", role="float", passes=True)
                weights = tape.pointwise(
                    "normalized", weights, total, role="float", saves=(weights, total), per_point=2
                )
            if self.router.expert_scale:
                scales = tape.lookup("scales", "B N J", chosen, tape.weight("expert_scale", "scored", "router"))
                weights = tape.pointwise("by_expert", weights, scales, role="float", saves=(weights, scales))
            if self.router.scale is not None:
                weights = tape.pointwise("scaled", weights, role="float")
            return tape.convert("as_wide", weights, role="activation"), chosen

    def _compute(self, tape: Tape, x: Tensor, features: str) -> Tensor:
        """Each vector through its expert: a weight of all experts is read at that of the vector."""
        met = "E J J" if self.n_identity is None else "E busy J"

        def linear(name: str, out: str, x: Tensor, axes: str, part: str) -> Tensor:
            with tape.scope(name):
                weight = tape.weight("weight", axes, part, "E", met, E="M")
                if not self.bias:
                    return tape.contract("product", out, x, weight)
                y = tape.contract("product", out, x, weight, role="fused")
                bias = tape.weight("bias", " ".join(axes.split()[:2]), "biases", met=met, E="M")
                return tape.sum("biased", y, bias)

        if self.gated:
            gate = linear("gate", "M I", x, f"E I {features}", "up_projection")

            def other() -> Tensor:
                return linear("up", "M I", x, f"E I {features}", "up_projection")

            hidden = activation.gated(tape, self.activation, gate, other, self.cut)
        else:
            up = linear("up", "M I", x, f"E I {features}", "up_projection")
            hidden = activation.record(tape, self.activation, up)
        return linear("down", f"M {features}", hidden, f"E {features} I", "down_projection")


def _rows(env: Env, each: Size) -> Env:
    """Rows of vectors, each as often as experts compute it, as tokens send them and as experts get them."""
    return {"sent": env["B"] * env["N"] * each, "M": env["B"] * env["S"] * each}


def _normed(tape: Tape, name: str, norm: Norm | None, x: Tensor) -> Tensor:
    if norm is None:
        return x
    with tape.scope(name):
        return norm.record(tape, x)
