"""Sweeps of models whose layers read what a layer before made: the scalar path's numbers, and no impossible shapes."""

import pytest

from archcalc.counts.memory import peak_bytes
from archcalc.huggingface.importing import import_config
from archcalc.shapes.grid import sweep
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run


def gemma(**more):
    said = {"model_type": "gemma4_text", "num_hidden_layers": 10, "num_kv_shared_layers": 4, "vocab_size": 300, **more}
    return Model.model_validate(import_config(said, "config.json").data)


@pytest.mark.parametrize("purpose", ["training", "inference"])
def test_a_window_is_varied_where_layers_share_keys(purpose):
    grid = sweep(gemma(), {"window": [8, 16]}, columns=["memory.total"], seq=32, purpose=purpose)
    run = Run(sequence=32) if purpose == "training" else Run("prefill", sequence=32, logits="last")
    for window, total in grid.rows():
        model = gemma(sliding_window=window)
        assert total == peak_bytes(model, run, Keeping("mixed-16" if purpose == "training" else "bf16"))


def test_a_shape_whose_layers_would_share_what_nobody_makes_is_left_out():
    """Kinds with heads of their own: those that share must have as many as those that make."""
    model = gemma()
    group = next(i for i, group in enumerate(model.layers) if hasattr(group, "kinds"))
    kind = next(name for name, layer in model.layers[group].kinds.items() if "shared" not in name)
    field = f"layers.{group}.kinds.{kind}.branches.0.mixer.n_kv_heads"
    had = model.layers[group].kinds[kind].branches[0].mixer.n_kv_heads
    grid = sweep(model, {field: [had, 2 * had]}, columns=["parameters.stored"])
    assert [row[0] for row in grid.rows()] == [had]
    assert list(grid.left_out.values()) == [1]
