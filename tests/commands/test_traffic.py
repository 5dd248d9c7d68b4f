"""traffic and flops under a plan on the command line: what is shown, its JSON and CSV, and what is refused."""

import csv
import io

import pytest
from command import ask

GPT3 = ("gpt3-175b", "--tp", "8", "--pp", "8", "--dp", "8", "--zero", "1", "--sequence-parallel", "--batch", "64")


def test_the_json_has_every_collective_of_the_rank_that_sends_the_most():
    found = ask("traffic", *GPT3, "--format", "json").json
    assert {"operation", "axis", "tensor", "count", "bytes", "phase", "scope"} <= found["collectives"][0].keys()
    assert {one["operation"] for one in found["collectives"]} == {
        *("all-reduce", "all-gather", "reduce-scatter"),
        "send",
    }
    assert {one["scope"] for one in found["collectives"]} == {"node", "across"}
    assert {one["phase"] for one in found["collectives"]} == {"forward", "backward", "gradients", "step"}
    assert found["ranks"][0]["collectives"] == found["collectives"]
    for rank in found["ranks"]:
        assert rank["sent"] == sum(one["count"] * one["sent"] for one in rank["collectives"])
        assert rank["bytes"] == sum(one["count"] * one["bytes"] for one in rank["collectives"])
    assert sorted(stage for rank in found["ranks"] for stage in rank["stages"]) == list(range(8))
    assert found["plan"]["world"] == 512
    assert found["plan"]["accumulation"] == 8


def test_the_table_adds_up_by_axis_and_operation():
    """GPT-2, tp 2, 1,024 positions of 768 numbers in bf16: 2 + 2 in 12 layers, the embedding, and the head's input on
    its way back.
    """
    answer = ask("traffic", "gpt2", "--tp", "2")
    once = 2 * 1_024 * 768
    assert f"{25 * once + 3 * 4 * 1_024:,}" in answer.out  # forward, with three numbers a token of the loss
    assert f"{25 * once:,}" in answer.out
    assert answer.out.startswith(f"gpt2: {50 * once + 3 * 4 * 1_024:,} bytes sent in a step by the busiest of 2 ranks")
    assert "may hide behind the gradients of weights: tp all-reduce (backward)" in answer.out


def test_csv_has_a_row_for_each_tensor_and_sort_of_stage():
    rows = list(csv.DictReader(io.StringIO(ask("traffic", *GPT3, "--format", "csv").out)))
    assert {row["stages"] for row in rows} == {"0", "1-6", "7"}
    assert len(
        {(row["stages"], row["operation"], row["tensor"], row["phase"], row["overlaps"]) for row in rows}
    ) == len(rows)


def test_nodes_may_be_larger():
    narrow, wide = (
        ask("traffic", "gpt2", "--tp", "2", "--dp", "8", "--format", "json", *more).json
        for more in ((), ("--gpus-per-node", "72"))
    )
    assert {one["axis"]: one["scope"] for one in narrow["collectives"]} == {"tp": "node", "dp": "across"}
    assert {one["axis"]: one["scope"] for one in wide["collectives"]} == {"tp": "node", "dp": "node"}


def test_one_rank_sends_nothing():
    answer = ask("traffic", "gpt2", "--dp", "1")
    assert answer.code == 0
    assert answer.out.startswith("gpt2: 0 bytes sent")
    assert "critical" not in answer.out
    assert ask("traffic", "gpt2", "--dp", "1", "--format", "json").json["collectives"] == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("traffic", "gpt2"), "archcalc traffic: needs a plan; --plan NAME, or flags such as --tp 8; `archcalc list plans` shows the catalogue's"),
        (("traffic", "gpt2", "--pp", "7"), "plan: pp: must divide n_layers (12); got 7; nearest: 4 or 6, or give stage_layers"),
        (("traffic", "gpt2", "--tp", "2", "--gpus-per-node", "0"), "--gpus-per-node: must be from 1 to 4,294,967,296; got 0"),
        (("traffic", "gpt2", "--tp", "2", "--cache-block", "16"), "plan: cache_block: applies only to inference; got 16"),
        (("traffic", "gpt2", "--tp", "2", "--precision", "int4"), "--precision: for training must be one of"),
        (("traffic", "gpt2", "--tp", "2", "--phase", "prefill", "--recompute", "full"), "--recompute: applies only to training; use --for training"),
        (("flops", "gpt2", "--cp", "3"), "plan: sequence: must be a multiple of cp (3); got 1,024; nearest: 1,023 or 1,026"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(arguments, told):
    answer = ask(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(told)
    assert answer.err.count("\n") == 1


def test_flops_of_ranks_and_the_bubble_apart():
    """GPT-3, stages of 12 layers: 72 s h^2 + 12 s^2 h a layer and sequence; 7 / 8 of the ideal time is waited."""
    s, h = 2_048, 12_288
    found = ask("flops", *GPT3, "--format", "json").json
    middle = next(rank for rank in found["ranks"] if 3 in rank["stages"])
    assert middle["micro_batches"] == 8
    assert middle["flops"]["training"] == 8 * 12 * (72 * s * h**2 + 12 * s**2 * h) // 8
    assert (found["bubble"]["of_work"], found["bubble"]["of_step"]) == (7 / 8, 7 / 15)
    alone = ask("flops", "gpt3-175b", "--batch", "64", "--format", "json").json
    assert found["step"]["model"] == alone["flops"]["training"]
    text = ask("flops", *GPT3).out
    assert "stages wait 0.875 of the time that the work takes, 46.67% of a step" in text
    assert "Bubble" not in ask("flops", "gpt2", "--tp", "2").out
