"""Values that cannot stand together in a block, and values without effect, are refused where they stand.

What must hold follows from what transformers computes (modeling_rope_utils): llama3 divides by high_freq_factor -
low_freq_factor, yarn's ramp goes from beta_fast down to beta_slow, longrope multiplies d_rotary / 2 frequencies by its
factors. In no model type of transformers do scores have ALiBi's slopes beside rotary positions.
"""

import json

import pytest
from command import ask

import archcalc
from archcalc.errors import Invalid
from archcalc.spec.source import parse
from archcalc.spec.validation import validate

HEADS = {"kind": "multi_head", "n_heads": 2, "n_kv_heads": 2, "d_head": 8, "bias": False}
RMSNORM = {"kind": "rmsnorm"}


def spec(attention=None, norm=RMSNORM, embedding=None):
    mlp = {"kind": "plain", "d_ff": 8, "activation": "relu", "bias": False}
    return json.dumps(  # which is YAML too
        {
            "schema": 0,
            "name": "small",
            "source": "this test",
            "vocab_size": 10,
            "context_length": 32,
            "d_model": 16,
            "embedding": embedding or {"positions": "none"},
            "layers": [{"repeat": 1, "norm": norm, "attention": {**HEADS, **(attention or {})}, "mlp": mlp}],
            "final_norm": RMSNORM,
            "unembedding": {"tied": True, "bias": False},
        },
        indent=1,
    )


def scaled(kind, **scaling):
    scaling = {"kind": kind, "original_context_length": 16, **scaling}
    return {"rotary": {"d_rotary": 8, "theta": 100.0, "scaling": scaling}}


def llama3(low, high):
    return {"attention": scaled("llama3", factor=8, low_freq_factor=low, high_freq_factor=high)}


def longrope(short, long):
    return {"attention": scaled("longrope", short_factor=[1.0] * short, long_factor=[2.0] * long)}


def yarn(**betas):
    return {"attention": scaled("yarn", factor=8, **betas)}


ROTARY = {"d_rotary": 8, "theta": 100.0}
FINE = {
    "one factor for each pair": longrope(4, 4),
    "low below high": llama3(1, 4),
    "slow is fast": yarn(beta_fast=2, beta_slow=2),
    "the usual word, said": {"attention": {"qk_norm_over": "head", "qk_norm_place": "before"}},
    "of a norm that is there": {"attention": {"qk_norm": RMSNORM, "qk_norm_over": "width"}},
    "slopes": {"attention": {"alibi": True, "alibi_scale": 2}},
    "no slopes": {"attention": {"alibi": False, "rotary": ROTARY}},
    "a gain from 1": {"norm": {**RMSNORM, "gain": True, "unit_offset": True}},
    "no gain": {"norm": {**RMSNORM, "gain": False, "unit_offset": False}},
    "rows of a table": {"embedding": {"positions": "learned", "extra_positions": 2}},
}
SCALING = "layers.0.attention.rotary.scaling"
WRONG = {
    "a short list": (
        longrope(4, 3),
        f"{SCALING}.long_factor: must have 4 numbers, one for each pair of d_rotary (8); got [2.0, 2.0, 2.0]; "
        "it has 3",
    ),
    "a factor for each feature": (
        longrope(8, 8),
        f"{SCALING}.short_factor: must have 4 numbers, one for each pair of d_rotary (8)",
    ),
    "low above high": (llama3(4.5, 1), f"{SCALING}.high_freq_factor: must be at least low_freq_factor (4.5); got 1"),
    "slow above fast": (
        yarn(beta_fast=2, beta_slow=3),
        f"{SCALING}.beta_slow: must be at most beta_fast (2.0); got 3",
    ),
    "slow above fast, by default": (
        yarn(beta_fast=0.5),
        f"{SCALING}.beta_slow: must be at most beta_fast (0.5); got 1.0, the default",
    ),
    "over what is not there": (
        {"attention": {"qk_norm_over": "width"}},
        "layers.0.attention.qk_norm_over: has no effect without qk_norm; got 'width'; leave it out",
    ),
    "after what is not there": (
        {"attention": {"qk_norm_place": "after", "qk_norm": None}},
        "layers.0.attention.qk_norm_place: has no effect without qk_norm; got 'after'; leave it out",
    ),
    "both": (
        {"attention": {"alibi": True, "rotary": ROTARY}},
        "layers.0.attention.alibi: must be false where rotary is given; got true; leave out one of alibi and rotary",
    ),
    "slopes of nothing": (
        {"attention": {"alibi_scale": 2}},
        "layers.0.attention.alibi_scale: has no effect without alibi; got 2; leave it out",
    ),
    "an offset of nothing": (
        {"norm": {**RMSNORM, "gain": False, "unit_offset": True}},
        "layers.0.norm.unit_offset: has no effect without gain; got true; leave it out",
    ),
    "rows of nothing": (
        {"embedding": {"positions": "none", "extra_positions": 2}},
        "embedding.extra_positions: has no effect unless positions is learned; got 2; leave it out",
    ),
}


def read(text):
    return validate(parse(text.encode(), "f"), archcalc.Model)


@pytest.mark.parametrize("parts", FINE.values(), ids=FINE)
def test_what_can_stand_together_does(parts):
    model = read(spec(**parts))
    assert read(archcalc.dump(model)) == model


@pytest.mark.parametrize(("parts", "text"), WRONG.values(), ids=WRONG)
def test_what_cannot_stand_together_is_one_line(parts, text):
    with pytest.raises(Invalid) as caught:
        read(spec(**parts))
    (problem,) = caught.value.problems
    assert problem.line is not None
    assert str(problem).split(": ", 1)[1].startswith(text)


def test_a_grid_leaves_out_shapes_with_too_many_factors(tmp_path):
    path = tmp_path / "long.yaml"
    path.write_text(spec(**longrope(4, 4)))
    answer = ask("sweep", str(path), "--vary", "d_rotary=4,8", "--vary", "d_ff=8,16", "-f", "json")
    assert [row[:2] for row in answer.json["rows"]] == [[8, 8], [8, 16]]
    reason = "scaling has not one number for each pair of d_rotary"
    assert answer.json["left_out"] == [{"reason": f"layers.0.attention.rotary.{reason}", "shapes": 2}]


def test_a_question_may_take_away_what_is_in_the_way():
    assert archcalc.load("llama3-8b@rotary=null,alibi=true").layers[0].attention.alibi
    with pytest.raises(Invalid, match="must be false where rotary is given"):
        archcalc.load("llama3-8b@alibi=true")


def test_a_tied_table_has_one_width():
    """OPT-350m has a token table of 512 features, which its unembedding shares."""
    told = "must be embedding.d_embedding (512), since the table is tied; got "
    for value, got in (("256", "256"), ("null", "null, the default")):
        spec = f"opt-350m@unembedding.d_embedding={value}"
        assert ask("params", spec).err == f"{spec}: unembedding.d_embedding: {told}{got}\n"
    assert archcalc.load("opt-350m@unembedding.d_embedding=256,tied=false")
    rows = ask("sweep", "opt-350m", "--vary", "unembedding.d_embedding=256,512", "-f", "json").json
    assert [row[0] for row in rows["rows"]] == [512]
    reason = "unembedding.d_embedding is not that of the embedding, whose table is tied"
    assert [(one["reason"], one["shapes"]) for one in rows["left_out"]] == [(reason, 1)]


def test_a_bound_by_a_field_that_is_null_bounds_nothing():
    """What needs that field says so itself, in one line."""
    said = ask("params", "deepseek-v2@n_groups=null")
    assert said.code == 2
    assert (
        said.err
        == "deepseek-v2@n_groups=null: layers.1.mlp.n_groups_chosen: has no effect without n_groups; got 3; leave it out\n"
    )
