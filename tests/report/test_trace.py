"""The way of the data: shapes at each step, matrices met, a running total that ends at the tally."""

import pytest
from command import ask
from examples import one_of_each
from facts import FILM_MATRICES, FILM_TOTAL

import archcalc


def steps(*arguments):
    return ask("trace", *arguments, "-f", "json").json["steps"]


def test_gpt3_s_data_has_the_film_s_shapes():
    found = {(s["module"], s["step"]): s for s in steps("gpt3-175b")}
    d, t = 12_288, 2_048
    assert {key: s["data"] for key, s in found.items()} == {
        ("embedding", "token"): [d, t],
        ("embedding", "position"): [d, t],
        ("attention_norm", "attention_norm"): [d, t],
        ("attention", "query"): [96, 128, t],
        ("attention", "key"): [96, 128, t],
        ("attention", "value"): [96, 128, t],
        ("attention", "scores"): [96, t, t],
        ("attention", "softmax"): [96, t, t],
        ("attention", "mix"): [96, 128, t],
        ("attention", "output"): [d, t],
        ("attention_residual", "attention_residual"): [d, t],
        ("mlp_norm", "mlp_norm"): [d, t],
        ("mlp", "up"): [4 * d, t],
        ("mlp", "gelu_tanh"): [4 * d, t],
        ("mlp", "down"): [d, t],
        ("mlp_residual", "mlp_residual"): [d, t],
        ("final_norm", "final_norm"): [d, t],
        ("unembedding", "unembedding"): [50_257, t],
        ("softmax", "softmax"): [50_257, t],
    }
    assert {s["layers"] for key, s in found.items() if "attention" in key[0]} == {96}
    assert found["attention", "query"]["matrices"] == [
        {"category": "query", "rows": 128, "columns": d, "matrices": 9_216, "parameters": 96 * d * d}
    ]
    assert not found["attention", "softmax"]["matrices"]
    assert not found["mlp", "gelu_tanh"]["matrices"]
    assert found["embedding", "position"]["other_weights"] == ["positions"]
    assert found["mlp_norm", "mlp_norm"]["other_weights"] == ["norms"]


@pytest.mark.parametrize("name", one_of_each())
def test_the_running_total_ends_at_the_tally(name):
    payload = ask("trace", name, "-f", "json").json
    tally = archcalc.params(archcalc.load(name)).tally
    assert payload["steps"][-1]["running_total"] == payload["parameters"]["tally"] == tally.total
    assert payload["matrices"]["tally"] == tally.matrices
    totals = [step["running_total"] for step in payload["steps"]]
    assert totals == sorted(totals)


def test_gpt3_s_trace_reads_as_the_film_tells_it():
    out = ask("trace", "gpt3-175b").out
    assert f"2,048 tokens pass through {FILM_TOTAL:,} weights" in out.splitlines()[0]
    assert max(map(len, out.splitlines())) <= 100
    for text in (
        "attention x96",
        "vectors talk to each other",
        "each vector on its own",
        "12,288 x 2,048",
        "50,257 x 2,048",
    ):
        assert text in out
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert "no weights" in rows["softmax"]
    assert "no weights" in rows["gelu_tanh"]
    assert "96 of 128 x 12,288" in rows["query"]
    assert "(positions)" in rows["position"]
    assert FILM_MATRICES == 27_938


def test_flash_says_what_stays_in_its_kernel():
    out = ask("trace", "gpt2", "--attention", "flash").out
    assert out.count("(in kernel)") == 2
    assert "(in kernel)" not in ask("trace", "gpt2").out
    inside = [s for s in steps("gpt2", "--attention", "flash") if s["module"] == "attention"]
    assert [s["role"] for s in inside if s["step"] in ("scores", "softmax")] == ["fused"] * 2


def test_batch_and_length_are_the_run_s():
    found = {s["step"]: s["data"] for s in steps("gpt2", "--batch", "8", "--seq", "0x10")}
    assert found["query"] == [8, 12, 64, 16]
    assert found["unembedding"] == [8, 50_257, 16]
    assert found["position"] == [8, 768, 16]
    assert {s["step"]: s["data"] for s in steps("gpt3-175b", "--seq", "1k")}["scores"] == [96, 1_024, 1_024]


def test_the_way_ends_with_the_probabilities_of_the_next_tokens():
    for arguments in ((), ("--batch", "2"), ("--attention", "flash")):
        *_, logits, last = steps("gpt2", *arguments)
        assert (last["module"], last["data"], last["matrices"]) == ("softmax", logits["data"], [])
        assert (last["running_total"], last["other_weights"]) == (logits["running_total"], [])
    out = ask("trace", "gpt2").out
    assert out.index("\nunembedding") < out.index("\nsoftmax ") < out.index("\ntally")


def test_shared_heads_are_fewer_matrices():
    found = {s["step"]: s for s in steps("gpt3-xl@n_kv_heads=4")}
    assert (found["query"]["data"], found["key"]["data"]) == ([16, 128, 2_048], [4, 128, 2_048])
    assert found["key"]["matrices"][0]["matrices"] == 4 * 24


def test_two_groups_are_walked_in_turn(tmp_path):
    model = archcalc.load("tiny")
    path = tmp_path / "two.yaml"
    path.write_text(archcalc.dump(model.model_copy(update={"layers": model.layers * 2})))
    out = ask("trace", str(path)).out
    assert all(f"attention, layers {layers}" in out for layers in ("0-4", "5-9"))
    one = model.layers[0].model_copy(update={"repeat": 1})
    (tmp_path / "one.yaml").write_text(archcalc.dump(model.model_copy(update={"layers": (*model.layers, one)})))
    assert "attention, layer 5 " in ask("trace", str(tmp_path / "one.yaml")).out
    assert {s["first_layer"] for s in steps(str(path))} == {None, 0, 5}
