"""Arrays of sizes count each row as that model by itself: of any blocks, branches, kinds that alternate, and windows."""

import numpy as np
import pytest
from drawn import resized, stacked
from examples import at_most, keepings
from hypothesis import given, settings
from hypothesis import strategies as st

import archcalc
from archcalc import strategies
from archcalc.counts.activations import cache, saved
from archcalc.counts.executed import executed
from archcalc.counts.flops import flops
from archcalc.counts.memory import memory, peak_bytes
from archcalc.counts.parameters import params
from archcalc.tape.precision import Keeping
from archcalc.tape.roles import widths
from archcalc.tape.run import Run

RECOMPUTE = ["none", "selective", "full"]


@st.composite
def rows(draw):
    """One make of model in several sizes, the number of layers among them."""
    model = draw(strategies.models(most_groups=2))
    return draw(st.lists(resized(model, 8), min_size=1, max_size=4))


def agree(column, exact):
    """A column's rows with the figures of each model; a figure that all rows share may be one number."""
    assert np.broadcast_to(column, len(exact)).tolist() == exact


@settings(max_examples=at_most(4))
@given(rows(), st.sampled_from(["math", "flash"]), st.sampled_from(["full", "half", "exact"]), st.integers(1, 3))
def test_work_of_arrays_is_that_of_each_row(models, kernel, causal, batch):
    many = stacked(models)
    agree(params(many).stored, [params(one).stored for one in models])
    for phase in ("training", "prefill"):
        run = Run(phase, batch, many.context_length, attention=kernel, causal=causal)
        runs = [run._replace(sequence=one.context_length) for one in models]
        found, exact = flops(many, run), [flops(one, r) for one, r in zip(models, runs, strict=True)]
        agree(found.forward, [one.forward for one in exact])
        agree(found.backward, [one.backward for one in exact])
        agree(found.pointwise, [one.pointwise for one in exact])
        agree(found.per_token, [one.per_token for one in exact])
        for recompute in RECOMPUTE:
            each = [executed(one, r, recompute).hardware for one, r in zip(models, runs, strict=True)]
            agree(executed(many, run, recompute).hardware, each)
    decode = Run("decode", batch, context=many.context_length, attention=kernel)
    one_more = [flops(one, decode._replace(context=one.context_length)).forward for one in models]
    agree(flops(many, decode).forward, one_more)


@given(rows(), st.sampled_from(["math", "flash"]), st.sampled_from(RECOMPUTE), st.booleans())
def test_what_arrays_keep_is_what_each_row_keeps(models, kernel, recompute, dropout):
    many = stacked(models)
    run = Run(batch=2, sequence=many.context_length, attention=kernel, dropout=dropout)
    runs = [run._replace(sequence=one.context_length) for one in models]
    for cast in (False, True):
        exact = [saved(one, r, widths(2), recompute, cast=cast) for one, r in zip(models, runs, strict=True)]
        for name, column in saved(many, run, widths(2), recompute, cast=cast)._asdict().items():
            agree(column, [getattr(one, name) for one in exact])
    for paged in (False, True):
        kept = [cache(one, Run("prefill", 2, one.context_length), 2, paged=paged) for one in models]
        agree(cache(many, Run("prefill", 2, many.context_length), 2, paged=paged), kept)


KEEPINGS = keepings()


@settings(max_examples=at_most(4))
@given(rows(), st.sampled_from(["math", "flash"]), KEEPINGS)
def test_the_peak_of_arrays_is_that_of_each_row(models, kernel, keeping):
    many = stacked(models)
    for phase, kept in (("training", keeping), ("prefill", Keeping("bf16"))):
        run = Run(phase, 2, many.context_length, attention=kernel)
        runs = [run._replace(sequence=one.context_length) for one in models]
        agree(peak_bytes(many, run, kept), [memory(one, r, kept).total for one, r in zip(models, runs, strict=True)])


PATTERN = """
schema: 0
name: local-global
source: "this test"
vocab_size: 10
context_length: 64
d_model: 8
embedding: {positions: none}
layers:
  - repeat: 6
    pattern: [local, local, global]
    kinds:
      local:
        norm: {kind: rmsnorm}
        attention: {kind: multi_head, n_heads: 4, n_kv_heads: 2, d_head: 4, bias: false, window: 16}
        mlp: {kind: gated, d_ff: 16, activation: silu, bias: false}
      global:
        norm: {kind: rmsnorm}
        attention: {kind: multi_head, n_heads: 4, n_kv_heads: 1, d_head: 4, bias: false}
        mlp: {kind: gated, d_ff: 16, activation: silu, bias: false}
final_norm: {kind: rmsnorm}
unembedding: {tied: true, bias: false}
"""


@pytest.mark.parametrize(
    "vary",
    [
        {"n_layers": [1, 2, 3, 4, 5, 6, 7, 300]},
        {"window": [1, 15, 16, 17, 63, 64, 65]},
        {"layers.0.kinds.local.attention.n_kv_heads": [1, 2, 4]},
        {"layers.0.kinds.global.attention.n_kv_heads": [1, 2, 4], "window": [8, 64], "n_layers": [1, 3, 5]},
    ],
    ids=lambda vary: ", ".join(name.rpartition(".")[2] for name in vary),
)
def test_a_grid_over_layers_windows_and_heads_of_a_pattern(vary, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(PATTERN)
    columns = ["parameters.stored", "flops.forward", "activations.saved", "cache.total", "memory.total"]
    for attention in ("math", "flash"):
        grid = archcalc.sweep(str(path), vary, columns=columns, attention=attention)
        assert not grid.left_out
        for row in grid.rows():
            asked = ",".join(f"{name}={n}" for name, n in zip(vary, row, strict=False))
            model = archcalc.load(f"{path}@{asked}")
            run = Run(sequence=64, attention=attention)
            assert row[len(vary) :] == (
                params(model).stored,
                flops(model, run).forward,
                saved(model, run, widths(2)).total,
                cache(model, Run("prefill", 1, 64), 2),
                memory(model, run, Keeping()).total,
            )


def test_windows_that_are_equal_in_some_rows_have_one_mask_there(tmp_path):
    """Math attention's mask is made once for all layers that mask alike."""
    path = tmp_path / "s.yaml"
    path.write_text(PATTERN.replace("d_head: 4, bias: false}", "d_head: 4, bias: false, window: 32}"))
    names = [f"layers.0.kinds.{kind}.attention.window" for kind in ("local", "global")]
    vary = {name: [8, 32] for name in names}
    grid = archcalc.sweep(str(path), vary, columns=["memory.total"], attention="math", purpose="inference")
    run = Run("prefill", sequence=64, attention="math", logits="last")
    found = {row[:2]: row[2] for row in grid.rows()}
    for windows, total in found.items():
        model = archcalc.load(f"{path}@{','.join(f'{name}={n}' for name, n in zip(names, windows, strict=True))}")
        assert total == memory(model, run, Keeping("bf16")).total
    kept = 4 * 2 * 2 * 4 * 2  # bytes a position: local layers, keys and values, heads, features, bf16
    assert found[8, 32] - found[32, 32] == 2 * 64 * 64 - (32 - 8) * kept  # one more mask, and a smaller cache
