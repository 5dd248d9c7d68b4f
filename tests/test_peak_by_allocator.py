"""The peaks of training steps, prompts and tokens that are really run, by the CPU allocator, equal what was counted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archcalc
from archcalc import strategies
from archcalc.allocator import cut_down, predicted_step, record_inference, record_step
from archcalc.footprint import memory
from archcalc.precision import Keeping
from archcalc.run import Run


def asked(precision, **rest):
    """On the CPU a norm that works in bf16 keeps bf16 statistics; elsewhere they are fp32."""
    return Keeping(precision, statistic=2 if precision == "bf16" else 4, **rest)


@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gpt2_cut_to_four_layers_takes_what_was_counted(precision, recompute):
    model, run = archcalc.load("gpt2@n_layers=4"), Run(batch=2, sequence=256, attention="flash")
    keeping = asked(precision, recompute=recompute)
    assert record_step(model, run, keeping) == predicted_step(model, run, keeping)


@settings(max_examples=30)
@given(model=strategies.models(), data=st.data())
def test_any_model_takes_what_was_counted(model, data):
    small, _ = cut_down(model)
    sequence = data.draw(st.integers(1, min(model.context_length, 64)))
    run = Run(batch=data.draw(st.integers(1, 3)), sequence=sequence, attention="flash")
    keeping = asked(
        data.draw(st.sampled_from(["fp32", "bf16"])),
        optimizer=data.draw(st.sampled_from(["adamw", "sgd"])),
        recompute=data.draw(st.sampled_from(["none", "full"])),
    )
    recorded, counted = record_step(small, run, keeping), predicted_step(small, run, keeping)
    assert recorded.tensors == counted.tensors
    assert recorded.step == counted.step
    assert recorded.passes >= counted.passes  # by what a kernel needs inside, where the peak is in one


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_gradients_that_are_held_are_there_from_the_start(optimizer):
    model, run = archcalc.load("tiny@n_layers=2"), Run(batch=2, sequence=64, attention="flash")
    keeping = asked("fp32", optimizer=optimizer, accumulate=True)
    assert record_step(model, run, keeping) == predicted_step(model, run, keeping)


def test_math_attention_is_counted_where_the_peak_is_the_loss():
    model, run = archcalc.load("tiny@n_layers=2,vocab_size=5000"), Run(batch=2, sequence=32, attention="math")
    assert record_step(model, run, asked("fp32")) == predicted_step(model, run, asked("fp32"))


def served(precision):
    return Keeping(precision, statistic=2 if precision == "bf16" else 4)


def predicted_phases(model, run, keeping):
    return {phase.phase: phase.bytes for phase in memory(model, run, keeping).phases}


@pytest.mark.parametrize("attention", ["math", "flash"])
@pytest.mark.parametrize("logits", ["last", "all"])
def test_gpt2_cut_to_two_layers_reads_a_prompt_and_adds_a_token_in_what_was_counted(attention, logits):
    model = archcalc.load("gpt2@n_layers=2")
    run = Run("prefill", 1, 512, attention=attention, logits=logits)
    found = record_inference(model, run, served("fp32"))
    assert {phase: one.tensors for phase, one in found.items()} == predicted_phases(model, run, served("fp32"))


@settings(max_examples=25)
@given(model=strategies.models(), data=st.data())
def test_any_model_reads_a_prompt_and_adds_a_token_in_what_was_counted(model, data):
    run = Run(
        "prefill",
        batch=data.draw(st.integers(1, 3)),
        sequence=data.draw(st.integers(1, model.context_length)),
        attention=data.draw(st.sampled_from(["math", "flash"])),
        logits=data.draw(st.sampled_from(["last", "all"])),
    )
    keeping = served(data.draw(st.sampled_from(["fp32", "bf16"])))
    counted = predicted_phases(model, run, keeping)
    for phase, recorded in record_inference(model, run, keeping).items():
        assert recorded.tensors == counted[phase]
        assert recorded.passes >= counted[phase]  # by what a kernel needs inside, where the peak is in one
