"""Attention: mixes the vectors of different positions."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag

from archcalc.blocks.adapters import narrowed, widened
from archcalc.blocks.base import Count, Mixer, Strict
from archcalc.blocks.constraints import AtMost, Divides, Needs, Without
from archcalc.blocks.cores import flash_core, math_core
from archcalc.blocks.growth import QueryGrowth
from archcalc.blocks.norm import Norm
from archcalc.blocks.relations import Product, Relation, Same
from archcalc.blocks.rotary import Rotary
from archcalc.blocks.shrinking import Shrinking
from archcalc.blocks.windows import seen
from archcalc.tape.legend import Cuts, Env
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape
from archcalc.tape.run import Run
from archcalc.units import grouped, several

Positive = Annotated[float, Field(gt=0, le=1e9)]


class Attention(Mixer):
    """A mixer of positions: "B S D" to "B N D"."""

    saying: ClassVar[str] = "vectors talk to each other"


class Biases(Strict):
    """Which projections of an attention have biases."""

    query: bool = Field(description="of the projection to queries")
    key: bool = Field(description="of the projection to keys")
    value: bool = Field(description="of the projection to values")
    output: bool = Field(description="of the projection back to d_model")


def of_kind(value: Any) -> str:
    """Tells a mapping of single biases from one word for all."""
    return "~each" if isinstance(value, Mapping | Strict) else "~all"


class MultiHead(Attention):
    """Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2; fewer key/value heads as in Ainslie et al. 2023,
    arXiv:2305.13245. Multi-head is R = 1 and multi-query is G = 1: a size of one is a size.
    """

    kind: Literal["multi_head"] = "multi_head"
    n_heads: Count = Field(description="query heads")
    n_kv_heads: Annotated[Count, Divides("n_heads")] = Field(description="key/value heads; n_heads for multi-head")
    d_head: Count = Field(description="features per head; n_heads x d_head need not be d_model")
    d_value: Count | None = Field(default=None, description="value features per head; null: d_head")
    bias: Annotated[Annotated[bool, Tag("~all")] | Annotated[Biases, Tag("~each")], Discriminator(of_kind)] = Field(
        description="whether query, key, value and output have biases; true, false, or each by its name"
    )
    rotary: Annotated[Rotary | None, AtMost("d_head", "d_rotary")] = Field(
        default=None, description="rotary positions of queries and keys; null: none"
    )
    alibi: Annotated[bool, Without("rotary")] = Field(
        default=False, description="whether scores fall off with the distance, a slope for each head"
    )
    alibi_scale: Annotated[Positive | None, Needs("alibi")] = Field(
        default=None, description="what ALiBi's slopes are multiplied by; null: nothing (Falcon: 1 / sqrt(d_head))"
    )
    qk_norm: Norm | None = Field(default=None, description="a norm of queries and keys")
    qk_norm_over: Annotated[Literal["head", "heads", "width"], Needs("qk_norm", "head")] = Field(
        default="head",
        description="head: each head's vector, by gains that all heads share; heads: the same with gains for "
        "each head; width: all heads together",
    )
    qk_norm_place: Annotated[Literal["before", "after"], Needs("qk_norm", "before")] = Field(
        default="before", description="of that norm: before the rotary positions, or after them (HunYuan)"
    )
    query_growth: QueryGrowth | None = Field(
        default=None, description="how queries grow with their position, for long texts; null: not"
    )
    window: Count | None = Field(
        default=None, description="positions that a query sees, itself included; null: all", examples=[4_096]
    )
    chunk: Count | None = Field(
        default=None, description="positions of a chunk; a query sees its own chunk; null: all"
    )
    scale: Positive | None = Field(default=None, description="of the scores; default: 1 / sqrt(d_head)")
    softcap: Positive | None = Field(
        default=None, description="c: scores become c x tanh(score / c); null: none", examples=[50.0]
    )
    sinks: bool = Field(
        default=False,
        description="whether each head has a learned score that takes a share of the softmax (gpt-oss)",
    )
    value_scale: Positive | None = Field(
        default=None, description="what values are multiplied by (MiMo-V2); null: nothing"
    )
    value_norm: Norm | None = Field(default=None, description="a norm of each head's values")
    values_are_keys: Annotated[bool, Without("d_value"), Needs("value_norm", idle=False)] = Field(
        default=False,
        description="whether values have no projection of their own, and are what that of keys makes, before the norm "
        "and the positions of keys (Gemma 4)",
    )
    gate: Literal["head", "feature"] | None = Field(
        default=None,
        description="head: what each head found is multiplied by one number that a projection makes of the input; "
        "feature: each feature by its own; null: neither",
    )
    gate_activation: Annotated[Literal["sigmoid", "softplus"], Needs("gate", "sigmoid")] = Field(
        default="sigmoid", description="what is made of that projection before it multiplies"
    )
    sub_norm: Norm | None = Field(
        default=None, description="a norm of what all heads found, before it is projected back; null: none (BitNet)"
    )
    clip: Positive | None = Field(
        default=None, description="c: queries, keys and values are cut to -c .. c; null: none"
    )
    shared_kv: Annotated[bool, Without("value_scale"), Without("value_norm"), Without("clip")] = Field(
        default=False,
        description="whether keys and values are those of the nearest attention before it that makes some, of as many "
        "heads and features and with the same window or chunks (Gemma 3n, Gemma 4)",
    )

    labels: ClassVar[Mapping[str, str]] = {
        "G": "key/value heads (n_kv_heads)",
        "R": "query heads per key/value head (n_heads / n_kv_heads)",
        "K": "query and key features per head (d_head)",
        "W": "value features per head (d_value, or d_head)",
        "U": "features per head that are turned (d_rotary)",
        "window": "positions that a query sees (window)",
        "chunk": "positions that see each other (chunk)",
        "kept": "positions whose keys and values are kept",
    }
    relations: ClassVar[tuple[Relation, ...]] = (
        Product(("n_heads", "d_head", "d_model")),
        Same(("n_kv_heads", "n_heads")),
        Same(("rotary.d_rotary", "d_head")),
    )

    copies: ClassVar[tuple[str, ...]] = ("G", "R")
    cuts: ClassVar[Cuts | None] = {"tp": (("G", "R"),)}
    derives: ClassVar[tuple[str, ...]] = ("T", "Q", "kept")
    named: ClassVar[tuple[str, ...]] = ("rotary", "alibi_scale", "query_growth")
    factors: ClassVar[tuple[str, ...]] = ("alibi_scale", "query_growth", "scale", "softcap", "clip", "value_scale")

    def summary(self) -> str:
        shared = "" if self.n_kv_heads == self.n_heads else f" over {several(self.n_kv_heads, 'key/value head')}"
        has = [name for name in Biases.model_fields if self.has_bias(name)]
        biases = " + biases" if len(has) == len(Biases.model_fields) else f" + {'/'.join(has)} biases" if has else ""
        extra = [
            f" + {self.rotary.summary()}" if self.rotary else "",
            " + ALiBi" * self.alibi,
            f" + q/k {self.qk_norm.summary()}" if self.qk_norm else "",
            f", window {grouped(self.window)}" if self.window else "",
            f", chunks of {grouped(self.chunk)}" if self.chunk else "",
            f", values of {grouped(self.d_value)}" if self.d_value else "",
            ", values that are keys" * self.values_are_keys,
            ", keys and values of a layer before" * self.shared_kv,
            f" + value {self.value_norm.summary()}" if self.value_norm else "",
            ", sinks" * self.sinks,
            f", output gated by {self.gate}" if self.gate else "",
            f" + sub {self.sub_norm.summary()}" if self.sub_norm else "",
        ]
        return f"{several(self.n_heads, 'head')} of {grouped(self.d_head)}{shared}{biases}" + "".join(extra)

    def has_bias(self, name: str) -> bool:
        """Whether one of the four projections has a bias."""
        if (name == "value" and self.values_are_keys) or (name in ("key", "value") and self.shared_kv):
            return False
        return self.bias if isinstance(self.bias, bool) else bool(getattr(self.bias, name))

    @property
    def sharing(self) -> tuple[Any, ...]:
        """What tells which keys and values can be read by another attention."""
        width = self.d_head if self.d_value is None else self.d_value
        return self.n_kv_heads, self.d_head, width, self.window, self.chunk

    def keeps(self) -> tuple[str, ...]:
        return () if self.shared_kv else ("keys", "values")

    def small(self, shrinking: Shrinking) -> Self:
        """Few heads, in the same sort of groups; fewer features are turned where fewer are, and windows are short."""
        shared = min(self.n_heads // self.n_kv_heads, 3)
        kv_heads = min(self.n_kv_heads, 4 if shared == 1 else 2)
        twice = shrinking.twice(self.n_heads, self.n_kv_heads)
        heads = twice[0] if twice else shrinking.size("n_heads", self.n_heads, kv_heads * shared, 0)
        if twice:
            kv_heads = twice[1]
        elif (
            heads != kv_heads * shared
        ):  # another kind of layer has as many heads, and fewer or more of keys and values
            alike = [n for n in (2, 3, 1) if heads % n == 0 and (n == 1) == (self.n_kv_heads == 1) and n != heads]
            heads, kv_heads = (heads, alike[0]) if alike else (kv_heads * shared, kv_heads)
        d_head = shrinking.size("d_head", self.d_head, 8)
        whole = self.rotary is None or self.rotary.d_rotary == self.d_head
        slopes, scale = self.alibi_scale, self.scale
        update = {
            "query_growth": self.query_growth and self.query_growth.small(shrinking),
            "alibi_scale": d_head**-0.5 if slopes == self.d_head**-0.5 else slopes,
            "scale": (d_head / 2) ** -0.5 if scale == (self.d_head / 2) ** -0.5 else scale,
            "n_heads": heads,
            "n_kv_heads": kv_heads,
            "d_head": d_head,
            "d_value": shrinking.optional("d_value", self.d_value, 6, 2),
            "rotary": self.rotary and self.rotary.small_over(d_head if whole else max(2, d_head // 4 * 2), shrinking),
            "window": shrinking.optional("window", self.window, 7),
            "chunk": shrinking.optional("chunk", self.chunk, 9),
        }
        return super().small(shrinking).model_copy(update=update)

    def sizes(self) -> Env:
        stated: dict[str, Any] = {
            "G": self.n_kv_heads,
            "R": self.n_heads // self.n_kv_heads,
            "K": self.d_head,
            "W": self.d_head if self.d_value is None else self.d_value,
        }
        more = {"U": self.rotary and self.rotary.d_rotary, "window": self.window, "chunk": self.chunk}
        return stated | {label: size for label, size in more.items() if size is not None}

    def derived(self, env: Env, run: Run) -> Env:
        return seen(env, run)

    def record(self, tape: Tape, x: Tensor, *, adapted: bool = False) -> Tensor:
        """The forward pass; x may have other features than d_model. `adapted`: of a block that layers share."""
        q, k, v = self._query_alone(tape, x) if self.shared_kv else self._query_key_value(tape, x, adapted=adapted)
        if self.query_growth is not None:
            q = tape.pointwise("grown_query", q, tape.given(f"growth({self.query_growth!r})", "S", "table"))
        if not self.shared_kv:
            k, v = tape.view(k, "cache", S="T"), tape.view(v, "cache", S="T")
        with tape.span("attention_core"):
            mixed = self._core(tape, q, k, v)
        if self.gate is not None:
            mixed = self._gated(tape, x, mixed)
        if self.sub_norm is not None:
            with tape.scope("sub_norm"):
                mixed = self.sub_norm.record(tape, mixed, "G R W", "(G R W)")
        return tape.linear(
            "output", "B S D", mixed, "D (G R W)", part="output", bias=self.has_bias("output"), leaves=True
        )

    def _query_key_value(self, tape: Tape, x: Tensor, *, adapted: bool) -> tuple[Tensor, Tensor, Tensor]:
        q = self._projected(tape, "query", x, "G R K", adapted=adapted)
        k = self._projected(tape, "key", x, "G K", adapted=adapted)
        v = tape.view(k, K="W") if self.values_are_keys else self._projected(tape, "value", x, "G W", adapted=adapted)
        if self.clip is not None:
            q, k, v = (
                tape.pointwise(f"clipped_{name}", y, saves=(y,)) for name, y in zip("qkv", (q, k, v), strict=True)
            )
        if self.value_scale is not None:
            v = tape.pointwise("scaled_value", v)
        if self.value_norm is not None:
            with tape.scope("value_norm"):
                v = self.value_norm.record(tape, v, "W")
        if self.qk_norm is not None and self.qk_norm_place == "before":
            q, k = self._normed(tape, "query_norm", q, "G R K"), self._normed(tape, "key_norm", k, "G K")
        if self.rotary is not None:
            q, k = self.rotary.record(tape, "query", q), self.rotary.record(tape, "key", k)
        if self.qk_norm is not None and self.qk_norm_place == "after":
            q, k = self._normed(tape, "query_norm", q, "G R K"), self._normed(tape, "key_norm", k, "G K")
        return q, k, v

    def _query_alone(self, tape: Tape, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values are there, in the order in which the layer that made them reads them."""
        q = self._projected(tape, "query", x, "G R K", adapted=False)
        if self.qk_norm is not None and self.qk_norm_place == "before":
            q = self._normed(tape, "query_norm", q, "G R K")
        if self.rotary is not None:
            q = self.rotary.record(tape, "query", q)
        if self.qk_norm is not None and self.qk_norm_place == "after":
            q = self._normed(tape, "query_norm", q, "G R K")
        return q, tape.given("shared_keys", "B T G K", "shared"), tape.given("shared_values", "B T G W", "shared")

    def _projected(self, tape: Tape, name: str, x: Tensor, out: str, *, adapted: bool) -> Tensor:
        """Queries, keys or values of each head: `out` is the heads' labels, and then that of their features."""
        stored, heads = f"({out}) {x.labels[-1]}", out[:-2]
        y = tape.linear(name, f"B S {out}", x, stored, each=heads, part=name, bias=self.has_bias(name))
        if not adapted:
            return y
        low = narrowed(tape, f"{name}_adapter", x, "thin")
        return widened(tape, f"{name}_adapter", y, low, out)

    def _normed(self, tape: Tape, name: str, x: Tensor, heads: str) -> Tensor:
        assert self.qk_norm is not None  # noqa: S101  (the caller asked)
        with tape.scope(name):
            if self.qk_norm_over == "width":
                return self.qk_norm.record(tape, x, heads, f"({heads})")
            gains = "K" if self.qk_norm_over == "head" else f"({heads[:-2]}) K"
            return self.qk_norm.record(tape, x, "K", gains)

    def _gated(self, tape: Tape, x: Tensor, mixed: Tensor) -> Tensor:
        """Qiu et al. 2025, arXiv:2505.06708: what was found, by what a projection of the input makes of it."""
        labels = "G R" if self.gate == "head" else "G R W"
        stored = f"({labels}) {x.labels[-1]}"
        gate = tape.linear("output_gate", f"B S {labels}", x, stored, part="attention_gate", bias=False, each="G R")
        softplus = self.gate_activation == "softplus"
        share = tape.pointwise("share", gate, saves=(gate,) if softplus else (), keeps=not softplus)
        return tape.pointwise("gated", mixed, share, saves=(mixed, share), scratch=int(self.gate == "head"))

    def _core(self, tape: Tape, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        sinks = tape.weight("sinks", "(G R)", "sinks") if self.sinks else None
        if tape.run.kernel == "flash":
            return flash_core(tape, q, k, v, sinks)
        return math_core(tape, q, k, v, self._mask(tape), sinks, capped=self.softcap is not None)

    def _mask(self, tape: Tape) -> Tensor:
        """What is added to the scores, made once for all layers that mask alike; ALiBi's has a slope for each head."""
        limits = [name for name in ("window", "chunk") if getattr(self, name) is not None]
        name = f"mask({', '.join(limits)})" if limits else "mask"
        if not self.alibi:
            return tape.given(name, "S T", "constant", by=" ".join(limits))
        slopes = "" if self.alibi_scale is None else f"({self.alibi_scale!r})"
        return tape.given(f"{name}.alibi{slopes}", "G R S T", "constant", by=" ".join(["G", "R", *limits]))
