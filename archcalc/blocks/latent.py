"""Multi-head latent attention: keys and values of all heads are made from one small vector a position."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from archcalc.blocks.attention import Attention, Positive
from archcalc.blocks.base import Count
from archcalc.blocks.constraints import AtMost, Constraint, Needs
from archcalc.blocks.growth import QueryGrowth
from archcalc.blocks.indexer import Indexer
from archcalc.blocks.norm import Norm
from archcalc.blocks.rotary import Rotary, Yarn
from archcalc.blocks.shrinking import Shrinking
from archcalc.tape.legend import Cuts, Env
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape
from archcalc.tape.run import Run
from archcalc.units import grouped, several


class NeedsMscale(Constraint):
    """True only where the rotary positions have YaRN's mscale_all_dim."""

    def _is_there(self, rotary: Any) -> bool:
        scaling = rotary and rotary.scaling
        return isinstance(scaling, Yarn) and bool(scaling.mscale_all_dim)

    def holds(self, size: Any, block: Any) -> bool:
        return not size or self._is_there(block.rotary)

    def reason(self, name: str) -> str:
        return f"{name} needs mscale_all_dim"

    def error(self, name: str, size: Any, block: Any) -> Any:
        return Needs("rotary.scaling.mscale_all_dim").error(name, size, block)

    def allowed(self, data: dict[str, Any], most: int) -> list[Any] | None:  # noqa: ARG002
        scaling = (data["rotary"] or {}).get("scaling") or {}
        return None if scaling.get("kind") == "yarn" and scaling.get("mscale_all_dim") else [False]


class LatentAttention(Attention):
    """DeepSeek-AI 2024, arXiv:2405.04434, section 2.1: a latent of kv_rank features and one rotary key for all heads
    are what is kept of a position.

    Training and prefill make keys and values of every head from the latent. Decode makes none: queries are taken
    through the keys' matrix and meet the latents, and what is mixed of these goes through the values' matrix.
    """

    kind: Literal["latent"] = "latent"
    n_heads: Count = Field(description="heads, each with queries, keys and values of its own")
    q_rank: Count | None = Field(
        default=None, description="features of the latent that queries are made from; null: none"
    )
    kv_rank: Count = Field(description="features of the latent that keys and values are made from")
    d_nope: Count = Field(description="query and key features per head without positions")
    d_rope: Count = Field(description="query features per head, and features of the one key of all heads, with them")
    d_value: Count = Field(description="value features per head")
    bias: bool = Field(
        description="whether the projections to the latents, to the one key, and back to d_model have biases"
    )
    norm: Norm | None = Field(description="of each latent; null: none")
    rotary: Annotated[Rotary | None, AtMost("d_rope", "d_rotary")] = Field(
        default=None, description="rotary positions of the d_rope features; null: none"
    )
    query_growth: QueryGrowth | None = Field(
        default=None, description="how queries grow with their position, for long texts; null: not (Mistral 4)"
    )
    scale: Positive | None = Field(default=None, description="of the scores; default: 1 / sqrt(d_nope + d_rope)")
    mscale: Annotated[bool, NeedsMscale()] = Field(
        default=False,
        description="whether scores are multiplied by the square of YaRN's 0.1 x mscale_all_dim x log(factor) + 1",
    )
    rank_scale: Annotated[bool, Needs("q_rank", idle=False)] = Field(
        default=False,
        description="whether queries, and the latent of keys and values behind its norm, are multiplied by "
        "sqrt(d_model / q_rank) and sqrt(d_model / kv_rank) (LongCat-Flash)",
    )
    gate: Literal["head"] | None = Field(
        default=None,
        description="head: what each head found is multiplied by the sigmoid of one number that a projection makes of "
        "the input (Ling 3); null: by nothing",
    )
    indexer: Indexer | None = Field(
        default=None, description="what chooses the positions that a query reads (DeepSeek-V3.2); null: all are read"
    )

    cuts: ClassVar[Cuts | None] = {"tp": (("heads",),)}
    labels: ClassVar[Mapping[str, str]] = {
        "heads": "heads with keys and values of their own (n_heads)",
        "Z": "features of the latent of keys and values (kv_rank)",
        "Y": "features of the latent of queries (q_rank)",
        "O": "query and key features per head without positions (d_nope)",
        "rope": "features of the key that all heads share (d_rope)",
        "K": "query and key features per head (d_head)",
        "W": "value features per head (d_value, or d_head)",
        "U": "features per head that are turned (d_rotary)",
    }
    copies: ClassVar[tuple[str, ...]] = ("heads",)
    derives: ClassVar[tuple[str, ...]] = ("K", "T", "kept", *Indexer.derives)
    named: ClassVar[tuple[str, ...]] = ("rotary",)
    factors: ClassVar[tuple[str, ...]] = ("query_growth", "scale", "mscale", "rank_scale")

    def summary(self) -> str:
        queries = "" if self.q_rank is None else f" and {grouped(self.q_rank)} for queries"
        turned = "" if self.rotary is None else f" + {self.rotary.summary()}"
        return (
            f"{several(self.n_heads, 'head')} of {grouped(self.d_nope)} + {grouped(self.d_rope)} over latents of "
            f"{grouped(self.kv_rank)}{queries}, values of {grouped(self.d_value)}{' + biases' * self.bias}{turned}"
            f"{f', {self.indexer.summary()}' if self.indexer else ''}"
            f"{', output gated by head' * bool(self.gate)}"
        )

    def keeps(self) -> tuple[str, ...]:
        """The paper's "decoupled keys" are rotary keys."""
        rotary = "shared keys" if self.rotary is None else "rotary keys"
        return ("latents", rotary, *(("index keys",) if self.indexer else ()))

    def small(self, shrinking: Shrinking) -> Self:
        """Few heads; values as wide as keys, or as their part without positions, where they are."""
        d_nope, d_rope = shrinking.size("d_nope", self.d_nope, 10), shrinking.size("d_rope", self.d_rope, 4)
        d_value = shrinking.size("d_value", self.d_value, 6)
        if self.d_value in (self.d_nope, self.d_nope + self.d_rope):
            d_value = d_nope if self.d_value == self.d_nope else d_nope + d_rope
        whole = self.rotary is None or self.rotary.d_rotary == self.d_rope
        turned = d_rope if whole else 2
        update = {
            "n_heads": min(self.n_heads, 4),
            "q_rank": shrinking.optional("q_rank", self.q_rank, 18),
            "kv_rank": shrinking.size("kv_rank", self.kv_rank, 12),
            "d_nope": d_nope,
            "d_rope": d_rope,
            "d_value": d_value,
            "rotary": self.rotary and self.rotary.small_over(turned, shrinking),
            "query_growth": self.query_growth and self.query_growth.small(shrinking),
            "indexer": self.indexer and self.indexer.small_beside(turned, shrinking),
        }
        return super().small(shrinking).model_copy(update=update)

    def sizes(self) -> Env:
        stated: dict[str, Any] = {"heads": self.n_heads, "Z": self.kv_rank, "O": self.d_nope, "rope": self.d_rope}
        more = {"Y": self.q_rank, "U": self.rotary and self.rotary.d_rotary}
        inner = self.indexer.sizes() if self.indexer else {}
        return {**stated, "W": self.d_value, **{k: n for k, n in more.items() if n is not None}, **inner}

    def derived(self, env: Env, run: Run) -> Env:
        inner = self.indexer.derived(env, run) if self.indexer else {}
        return {"K": env["O"] + env["rope"], **inner}

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        source, features = self._source(tape, x)
        nope, rope = self._queries(tape, source, features)
        if tape.run.phase == "decode":
            latent, shared, chosen = self._latents(tape, x, source, features)
            mixed = _absorbed(tape, nope, rope, latent, shared, chosen)
        else:
            q = _joined(tape, "queries", "B S heads K", nope, rope)
            latent, shared, chosen = self._latents(tape, x, source, features)
            nope = tape.linear("key_nope", "B T heads O", latent, "(heads O) Z", each="heads", part="key", bias=False)
            k = _joined(tape, "keys", "B T heads K", nope, shared)
            v = tape.linear("value", "B T heads W", latent, "(heads W) Z", each="heads", part="value", bias=False)
            with tape.span("attention_core"):
                mixed = (_flash if tape.run.kernel == "flash" else _math)(tape, q, k, v, chosen)
        if self.gate is not None:
            mixed = self._gated(tape, x, mixed)
        return tape.linear("output", "B S D", mixed, "D (heads W)", part="output", bias=self.bias, leaves=True)

    @staticmethod
    def _gated(tape: Tape, x: Tensor, mixed: Tensor) -> Tensor:
        """As in other attentions: see MultiHead."""
        gate = tape.linear("output_gate", "B S heads", x, "heads D", part="attention_gate", bias=False, each="heads")
        share = tape.pointwise("share", gate, keeps=True)
        return tape.pointwise("gated", mixed, share, saves=(mixed, share), scratch=1)

    def _source(self, tape: Tape, x: Tensor) -> tuple[Tensor, str]:
        """What queries are made of, and the label of its features: the residual stream, or their latent."""
        if self.q_rank is None:
            return x, "D"
        with tape.span("queries"):
            x = tape.linear("query_latent", "B S Y", x, "Y D", part="latents", bias=self.bias)
            return self._normed(tape, "query_latent_norm", x, "Y"), "Y"

    def _queries(self, tape: Tape, source: Tensor, features: str) -> tuple[Tensor, Tensor]:
        """Of each head, without positions and with them."""
        with tape.span("queries"):
            rope = self._ranked(tape, "query_rope", self._of_heads(tape, "query_rope", source, "rope", features))
            rope = rope if self.rotary is None else self.rotary.record(tape, "query", rope)
            rope = self._grown(tape, "query_rope", rope)
            nope = self._ranked(tape, "query_nope", self._of_heads(tape, "query_nope", source, "O", features))
            nope = self._grown(tape, "query_nope", nope)
        return nope, rope

    def _ranked(self, tape: Tape, name: str, x: Tensor) -> Tensor:
        """Multiplied by how much wider than its latent the residual stream is."""
        return tape.pointwise(f"ranked_{name}", x) if self.rank_scale else x

    def _grown(self, tape: Tape, name: str, x: Tensor) -> Tensor:
        if self.query_growth is None:
            return x
        return tape.pointwise(f"grown_{name}", x, tape.given(f"growth({self.query_growth!r})", "S", "table"))

    def _of_heads(self, tape: Tape, name: str, x: Tensor, features: str, source: str) -> Tensor:
        """Queries of all heads, from the residual stream or from their latent."""
        axes = f"(heads {features}) {source}"
        return tape.linear(name, f"B S heads {features}", x, axes, each="heads", part="query", bias=False)

    def _latents(self, tape: Tape, x: Tensor, source: Tensor, features: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """The latent and the key that all heads share, as they are kept, and the positions that a query reads."""
        keys = None if self.indexer is None else self.indexer.keys(tape, x)
        with tape.span("latents"):
            latent = tape.linear("latent", "B S Z", x, "Z D", part="latents", bias=self.bias)
            latent = self._ranked(tape, "latent", self._normed(tape, "latent_norm", latent, "Z"))
            shared = tape.linear("key_rope", "B S rope", x, "rope D", part="latents", bias=self.bias)
            shared = shared if self.rotary is None else self.rotary.record(tape, "key", shared)
        latent, shared = tape.view(latent, "cache", S="T"), tape.view(shared, "cache", S="T")
        if self.indexer is None or keys is None:
            return latent, shared, None
        return latent, shared, self.indexer.choose(tape, x, source, features, keys)

    def _normed(self, tape: Tape, name: str, x: Tensor, over: str) -> Tensor:
        if self.norm is None:
            return x
        with tape.scope(name):
            return self.norm.record(tape, x, over)


def _joined(tape: Tape, name: str, out: str, nope: Tensor, rope: Tensor) -> Tensor:
    """Features without positions and those with them, which a head has of its own or shares, in one vector a head."""
    with tape.span(f"joined_{name}"):
        return tape.join("joined", out, nope, rope)


def _math(tape: Tape, q: Tensor, k: Tensor, v: Tensor, chosen: Tensor | None) -> Tensor:
    """Every step stored. Queries and keys were joined head by head, as products read them; values are copied."""
    mask = tape.given("mask", "S T", "constant")
    if chosen is not None:
        with tape.without_gradient(), tape.span("mask"):
            mask = tape.hide("chosen_mask", "B S T", chosen, mask)
    with tape.span("scores"):
        scaled = tape.pointwise("scaled", tape.contract("product", "B heads S T", q, k))
        masked = tape.sum("masked", scaled, mask)
    probabilities = tape.dropout("probabilities_dropout", tape.softmax(masked, over="T"))
    with tape.span("mix"):
        v = tape.copy("values_by_head", v)
        return tape.copy("by_position", tape.contract("product", "B S heads W", probabilities, v))


def _flash(tape: Tape, q: Tensor, k: Tensor, v: Tensor, chosen: Tensor | None) -> Tensor:
    """The scores never leave the kernel, whose backward pass makes them again."""
    by = () if chosen is None else (chosen,)
    with tape.span("scores"):
        scores = tape.contract("product", "B heads S T", q, k, *by, role="fused", repeats=1)
    with tape.span("softmax"):
        logsumexp = tape.reduce("logsumexp", scores, "T", role="float", per_point=6)
        probabilities = tape.pointwise(
            "probabilities", scores, logsumexp, role="fused", saves=(logsumexp,), per_point=1
        )
    with tape.span("mix"):
        return tape.contract("product", "B S heads W", probabilities, v, keeps=True)


def _absorbed(tape: Tape, nope: Tensor, rope: Tensor, latent: Tensor, shared: Tensor, chosen: Tensor | None) -> Tensor:
    """Queries in the space of the latents, which are keys and values of all heads; flash does it in one kernel.

    Where an indexer chose, latents and keys of those positions are read alone.
    """
    role: Any = "fused" if tape.run.kernel == "flash" else "activation"
    keys = "T" if chosen is None else "chosen"

    def picked(name: str, x: Tensor, features: str) -> Tensor:
        return x if chosen is None else tape.lookup(name, f"B S chosen {features}", chosen, x, role=role)

    with tape.scope("key_nope"):
        absorbed = tape.contract("absorbed", "B S heads Z", nope, tape.weight("weight", "(heads O) Z", "key", "heads"))
    with tape.span("attention_core"):
        with tape.span("scores"):
            latent = picked("latents", latent, "Z")
            by_latent = tape.contract("by_latent", f"B heads S {keys}", absorbed, latent, role=role)
            shared = picked("keys", shared, "rope")
            by_position = tape.contract("by_position", f"B heads S {keys}", rope, shared, role=role)
            scores = tape.pointwise("scaled", tape.sum("sum", by_latent, by_position, role=role), role=role)
        probabilities = tape.softmax(scores, over=keys, role=role)
        with tape.span("mix"):
            mixed = tape.contract("product", "B S heads Z", probabilities, latent)
    with tape.scope("value"):
        found = tape.contract("product", "B S heads W", mixed, tape.weight("weight", "(heads W) Z", "value", "heads"))
    return tape.copy("by_position", found)
