"""Counts of the catalogue equal published ones, digit for digit."""

import pytest
from command import ask
from facts import (
    FILM_MATRICES,
    FILM_TALLY,
    FILM_TOTAL,
    GPT3_TABLE_2_1,
    GPT3_TABLE_D_1_MILLIONS,
    PARAMETERS,
)
from hypothesis import given
from hypothesis import strategies as st

import archcalc
from archcalc.counts.parameters import params, totals
from archcalc.spec.catalogue import names
from archcalc.strategies import models
from archcalc.tape.run import Run


def test_the_catalogue_has_gpt2_and_gpt3():
    assert set(names()) >= {*PARAMETERS, "tiny"}


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_stored_parameters_are_the_published_ones(name, parameters):
    counts = archcalc.params(archcalc.load(name))
    assert counts.stored == counts.active == parameters
    assert ask("params", name, "--format", "json").json["parameters"]["stored"] == parameters


@pytest.mark.parametrize(("name", "shape"), GPT3_TABLE_2_1.items())
def test_gpt3_has_the_shapes_of_table_2_1(name, shape):
    model = archcalc.load(name)
    attention = model.layers[0].attention
    assert (model.n_layers, model.d_model, attention.n_heads, attention.d_head) == shape
    assert (model.vocab_size, model.context_length, model.layers[0].mlp.d_ff) == (50257, 2048, 4 * shape[1])


@pytest.mark.parametrize(("name", "millions"), GPT3_TABLE_D_1_MILLIONS.items())
def test_gpt3_specs_carry_table_d_1_as_counted(name, millions):
    entry = next(p for p in archcalc.load(name).published if "Table D.1" in p.source)
    assert (entry.status, entry.parameters) == ("counted", millions * 10**6)
    # as many digits as the table prints before its trailing zeros, which stand for rounding (760: the zero is a digit)
    assert entry.digits == max(3, len(str(millions).rstrip("0")))


def test_gpt3_tallies_as_the_film_does():
    tally = archcalc.params(archcalc.load("gpt3-175b")).tally
    rows = [(c.category, c.shapes[0].rows, c.shapes[0].columns, c.matrices, c.parameters) for c in tally.categories]
    assert rows == FILM_TALLY
    assert (tally.total, tally.matrices) == (FILM_TOTAL, FILM_MATRICES)


def test_params_prints_the_film_s_table_digit_for_digit():
    out = ask("params", "gpt3-175b").out.splitlines()
    running = 0
    for category, rows, columns, matrices, parameters in FILM_TALLY:
        running += parameters
        line = next(line for line in out if line.startswith(f"{category} "))
        assert line.split() == [
            category,
            f"{rows:,}",
            "x",
            f"{columns:,}",
            f"{matrices:,}",
            f"{parameters:,}",
            f"{running:,}",
        ]
    assert running == FILM_TOTAL
    assert next(line for line in out if line.startswith("total")).split() == [
        "total",
        "27,938",
        "175,181,291,520",
    ]


def test_params_prints_the_bridge_term_by_term():
    bridge = ask("params", "gpt3-175b", "--format", "json").json["bridge"]
    d, layers, context, d_ff = 12_288, 96, 2_048, 49_152
    assert bridge == [
        {"term": "tied unembedding", "parameters": -50_257 * d},
        {"term": "positions", "parameters": context * d},
        {"term": "biases", "parameters": layers * (4 * d + d_ff + d)},
        {"term": "norms", "parameters": (2 * layers + 1) * 2 * d},
    ]
    assert FILM_TOTAL + sum(term["parameters"] for term in bridge) == PARAMETERS["gpt3-175b"]
    out = ask("params", "gpt3-175b").out
    for text in ("-617,558,016", "+25,165,824", "+10,616,832", "+4,743,168", "174,604,259,328"):
        assert text in out


def test_non_embedding_leaves_tables_and_head_out():
    # facts of the four GPT-2: total less token table, positions and head; 85,056,000 for the smallest
    assert (
        archcalc.params(archcalc.load("gpt2")).non_embedding == 124_439_808 - 50_257 * 768 - 1_024 * 768 == 85_056_000
    )
    untied = archcalc.params(archcalc.load("gpt2@tied=false"))
    assert untied.stored == 163_037_184  # transformers 5.23, tie_word_embeddings=False
    assert untied.non_embedding == 85_056_000


def test_an_unembedding_s_bias_is_no_part_of_non_embedding():
    biased = archcalc.params(archcalc.load("gpt2@unembedding.bias=true"))
    assert (biased.stored, biased.non_embedding) == (124_439_808 + 50_257, 85_056_000)


def test_tensors_sum_to_what_is_stored():
    tensors = ask("params", "gpt3-175b", "--by", "tensor", "--format", "json").json["tensors"]
    assert sum(t["parameters"] for t in tensors) == PARAMETERS["gpt3-175b"]
    query = next(t for t in tensors if t["name"] == "layers.{i}.attention.query.weight")
    assert query == {
        "name": "layers.{i}.attention.query.weight",
        "shape": [12288, 12288],
        "layers": 96,
        "first_layer": 0,
        "layer_indices": "0-95",
        "parameters": 96 * 12288 * 12288,
        "category": "query",
    }
    positions = next(t for t in tensors if t["name"] == "embedding.position.weight")
    assert (positions["category"], positions["layers"], positions["shape"]) == (None, 1, [2048, 12288])


def test_layers_sum_to_what_is_stored():
    layers = ask("params", "gpt3-175b", "--by", "layer", "--format", "json").json["layers"]
    assert layers[-1]["running_total"] == sum(row["parameters"] for row in layers) == PARAMETERS["gpt3-175b"]
    mlp = next(row for row in layers if row["module"] == "layers.{i}.mlp")
    assert mlp["parameters_each"] == 2 * 12288 * 49152 + 49152 + 12288
    assert mlp["parameters"] == 96 * mlp["parameters_each"]


def test_counts_do_not_depend_on_the_run():
    model = archcalc.load("gpt2")
    for run in (archcalc.Run(), archcalc.Run("prefill", 8, 1024, attention="flash")):
        weights = {w.path for s in model.record(run).segments for op in s.ops for w in op.weights}
        assert weights == {t.name for t in archcalc.params(model).tensors}


@given(models())
def test_totals_are_sums_of_the_tensors(model):
    found, each = totals(model), params(model).tensors
    met = [tensor.parameters if tensor.active is None else tensor.active for tensor in each]
    tables = ("embedding.", "unembedding.")
    assert found.stored == sum(tensor.parameters for tensor in each)
    assert found.active == sum(met)
    assert found.non_embedding == sum(tensor.parameters for tensor in each if not tensor.name.startswith(tables))
    assert found.is_sparse == any(tensor.active is not None for tensor in each)
    assert found == params(model).totals


def test_what_a_layer_has_worked_out_is_not_copied_with_a_change():
    layer = archcalc.load("tiny").layers[0]
    assert layer.residual_branches[0].scale is None
    assert layer.model_copy(update={"scale": 2.0}).residual_branches[0].scale == 2.0
    assert dict(layer.model_copy()) == dict(layer)


@given(models(), st.lists(st.tuples(st.integers(1, 8), st.integers(1, 64)), min_size=2, max_size=3))
def test_runs_that_differ_in_sizes_share_tapes_and_count_as_with_their_own(model, sizes):
    """What a tape has is asked of a run whose sizes it is not told."""
    counted = []
    for fresh in (False, True):
        for batch, sequence in sizes:
            with pytest.MonkeyPatch.context() as patch:
                if fresh:
                    patch.setattr("archcalc.spec.tapes._tapes", {})
                run = Run("training", batch, min(sequence, model.context_length))
                counted.append((archcalc.flops(model, run), archcalc.memory(model, run)))
    assert counted[: len(sizes)] == counted[len(sizes) :]
