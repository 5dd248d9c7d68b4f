"""Memory of one device: terms that add up, recipes by arithmetic, phases, and what a device holds."""

import pytest
from examples import keepings
from hypothesis import given
from hypothesis import strategies as st

import archcalc
from archcalc import strategies
from archcalc.counts.activations import saved
from archcalc.counts.memory import memory, peak_bytes, state_bytes
from archcalc.errors import Invalid
from archcalc.hardware.devices import device_names, find_device
from archcalc.hardware.fitting import RESERVE, capacity, fit, most, usable
from archcalc.proof.allocator import refuse_unrun
from archcalc.report.memory import lettered_memory
from archcalc.tape.optimizers import OPTIMIZERS
from archcalc.tape.precision import RECIPES, Keeping
from archcalc.tape.roles import widths
from archcalc.tape.run import Run

TRAINING = keepings()
SERVING = st.builds(
    lambda precision, kv: Keeping(precision, kv_precision=kv),
    st.sampled_from(["fp32", "bf16", "fp16", "fp8", "int8", "int4"]),
    st.sampled_from([None, "fp32", "bf16", "fp8", "int8"]),
)


@st.composite
def questions(draw):
    """A model with a run and a keeping of either purpose."""
    model = draw(strategies.models())
    batch, sequence = draw(st.integers(1, 5)), draw(st.integers(1, model.context_length))
    attention = draw(st.sampled_from(["math", "flash"]))
    if draw(st.booleans()):
        return (
            model,
            Run("training", batch, sequence, attention=attention, dropout=draw(st.booleans())),
            draw(TRAINING),
        )
    activation = draw(st.sampled_from(["fused", "eager"]))
    return (
        model,
        Run("prefill", batch, sequence, attention=attention, logits="last", activation=activation),
        draw(SERVING),
    )


@given(asked=questions())
def test_terms_add_up_to_the_largest_phase(asked):
    used = memory(*asked)
    assert sum(term.bytes for term in used.terms) == used.total == max(phase.bytes for phase in used.phases)
    assert used.total == peak_bytes(*asked)
    assert used.peak.split(",")[0] == next(phase.phase for phase in used.phases if phase.bytes == used.total)
    assert all(term.bytes > 0 for term in used.terms)
    assert used.total > used.state  # the optimizer's step has all of it, and the batch


@given(asked=questions())
def test_more_sequences_never_take_less(asked):
    model, run, keeping = asked
    assert memory(model, run._replace(batch=run.batch + 1), keeping).total >= memory(model, run, keeping).total


@given(model=strategies.models(), data=st.data())
def test_recomputing_and_narrower_numbers_never_take_more_to_save(model, data):
    run = Run(sequence=data.draw(st.integers(1, model.context_length)), attention="flash")
    kept = {rule: saved(model, run, widths(2), rule).total for rule in ("none", "full")}
    assert kept["full"] <= kept["none"]
    narrow, wide = (memory(model, run, Keeping(precision)).total for precision in ("bf16", "fp32"))
    assert narrow <= wide


# Bytes a parameter, by addition: weights, gradients, master weights, moments; and 4 for each tensor's counter.
@pytest.mark.parametrize(
    ("precision", "optimizer", "each", "counted"),
    [
        ("mixed-16", "adamw", 2 + 2 + 4 + 4 + 4, True),
        ("mixed-18", "adamw", 2 + 4 + 4 + 4 + 4, True),
        ("bf16", "adamw", 2 + 2 + 2 + 2, True),
        ("fp32", "adamw", 4 + 4 + 4 + 4, True),
        ("amp", "adamw", 4 + 4 + 4 + 4, True),
        ("amp", "adamw-foreach", 4 + 4 + 4 + 4, True),
        ("mixed-16", "adamw-fused", 2 + 2 + 4 + 4 + 4, True),
        ("amp", "sgd", 4 + 4 + 4, False),
        ("mixed-16", "sgd-plain", 2 + 2 + 4, False),
        ("mixed-18", "sgd-plain", 2 + 4 + 4, False),
        ("amp", "sgd-plain", 4 + 4, False),
        ("bf16", "sgd-plain", 2 + 2, False),
        ("mixed-16", "sgd", 2 + 2 + 4 + 4, False),
        ("mixed-18", "sgd", 2 + 4 + 4 + 4, False),
        ("bf16", "sgd", 2 + 2 + 2, False),
        ("fp32", "sgd", 4 + 4 + 4, False),
    ],
)
@pytest.mark.parametrize("accumulate", [False, True])
def test_the_state_by_recipe(precision, optimizer, each, counted, accumulate):
    counts = archcalc.params(archcalc.load("gpt3-175b"))
    tensors = 2 + 96 * 16 + 2  # two tables, sixteen in each layer, gain and bias of the final norm
    state = state_bytes(counts, Run(), Keeping(precision, optimizer, accumulate=accumulate))
    assert state == each * 174_604_259_328 + 4 * tensors * counted


def test_gpt2_xl_takes_24_gb_of_state():
    # Rajbhandari et al. 2020, arXiv:1910.02054, section 3.1: 1.5 billion parameters need at least 24 GB
    state = state_bytes(archcalc.params(archcalc.load("gpt2-xl")), Run(), Keeping())
    assert 24e9 <= state < 25e9


def test_the_peak_of_gpt2_is_its_loss():
    # GPT-2 on its whole context, bf16 with fp32 master: everything but the gradients of weights is there, and the
    # log-probabilities twice more as gradients, in fp32: 4 bytes x 1,024 positions x 50,257 tokens.
    used = memory(archcalc.load("gpt2"), Run(sequence=1024, attention="flash"), Keeping())
    terms = {term.name: term.bytes for term in used.terms}
    logits = 4 * 1024 * 50_257
    assert used.peak == "loss, loss.log_probabilities"
    assert terms["temporaries"] == 2 * logits
    assert terms["weights"] == 2 * 124_439_808
    assert terms["master weights"] == 4 * 124_439_808
    assert terms["saved by the head"] == logits + 2 * 2 * 1024 * 768 + 2 * 4 * 1024
    assert "gradients" not in terms


def test_held_gradients_are_there_at_the_loss():
    run = Run(sequence=1024, attention="flash")
    model = archcalc.load("gpt2")
    held = memory(model, run, Keeping("mixed-18"))
    assert next(term.bytes for term in held.terms if term.name == "gradients") == 4 * 124_439_808
    once, again = (memory(model, run, Keeping("mixed-16", accumulate=a)).total for a in (False, True))
    assert again - once == 2 * 124_439_808


def test_recomputed_layers_leave_their_inputs_and_one_working_set():
    model, run = archcalc.load("gpt3-13b"), Run(batch=8, sequence=2048, attention="flash")
    none, full = (memory(model, run, Keeping(recompute=rule)) for rule in ("none", "full"))
    assert full.total < none.total
    layer = 2 * 8 * 2048 * 5120  # bytes of a layer's input: 2 x sequences x positions x features
    terms = {term.name: term.bytes for term in full.terms}
    assert full.peak == "backward, layers.{i}.mlp.gelu_tanh.activated"
    # The first layer is last. Of what its forward pass made again, the output of gelu (4 inputs' worth) is gone:
    # left are norm, q, k, v, mix, sum, norm and the input of gelu (4), fp32 statistics of two norms, and one sum a head.
    assert terms["saved activations"] == layer + 8 * 2048  # and the numbers of positions
    assert terms["recomputed"] == (1 + 3 + 1 + 1 + 1 + 4) * layer + 4 * (2 * 2 + 40) * 8 * 2048
    assert "recomputed" not in {term.name for term in none.terms}


def test_inference_holds_weights_by_their_bits_and_a_cache():
    model = archcalc.load("gpt3-175b")
    run = Run("prefill", 2, 100, attention="flash", logits="last")
    for precision, bits, kv in (("fp32", 32, 4), ("bf16", 16, 2), ("fp16", 16, 2), ("fp8", 8, 2), ("int4", 4, 2)):
        used = memory(model, run, Keeping(precision))
        terms = {term.name: term for term in used.terms}
        assert terms["weights"].bytes == 174_604_259_328 * bits // 8
        assert terms["key-value cache"].bytes == 2 * 100 * (2 * 96 * 12_288 * kv)  # 4.5 MiB a token at 2 bytes
        assert terms["weights"].kind == ("exact" if bits >= 16 else "modelled")
        assert [phase.phase for phase in used.phases] == ["prefill", "decode"]
    narrow = memory(model, run, Keeping("bf16", kv_precision="fp8"))
    assert next(t.bytes for t in narrow.terms if t.name == "key-value cache") == 2 * 100 * 2 * 96 * 12_288


def test_odd_parameters_of_four_bits_fill_their_last_byte():
    model = archcalc.load(
        "tiny@d_ff=1,d_model=1,n_heads=1,n_kv_heads=1,d_head=1,vocab_size=2,context_length=1,n_layers=1"
    )
    stored = archcalc.params(model).stored
    assert stored % 2 == 1
    assert state_bytes(archcalc.params(model), Run("prefill"), Keeping("int4")) == (stored + 1) // 2


def test_what_is_proven_and_what_is_modelled_is_told():
    model = archcalc.load("gpt2")

    def kinds(keeping, **run):
        asked = {"batch": 16, "sequence": 1024, "attention": "flash"} | run
        return {term.name: term.kind for term in memory(model, Run(**asked), keeping).terms}

    assert kinds(Keeping())["saved activations"] == kinds(Keeping())["weights"] == "exact"
    assert kinds(Keeping())["temporaries"] == "modelled"
    assert kinds(Keeping(), dropout=True)["saved activations"] == "modelled"
    assert kinds(Keeping(recompute="selective"))["saved activations"] == "modelled"
    served = {"phase": "prefill", "logits": "last"}
    assert kinds(Keeping("bf16"), **served)["key-value cache"] == "exact"
    assert kinds(Keeping("bf16", kv_precision="fp8"), **served)["key-value cache"] == "modelled"
    assert kinds(Keeping("int4"), **served)["weights"] == "modelled"


def test_gradients_are_one_for_each_parameter_and_a_tied_table_s_others_pass():
    run = Run(sequence=1, attention="flash")
    terms = {term.name: term.bytes for term in memory(archcalc.load("gpt2"), run, Keeping()).terms}
    assert terms["gradients"] == 2 * 124_439_808
    assert terms["temporaries"] == 2 * 2 * 768 * 50_257  # another gradient of the table, and the sum of both


@pytest.mark.parametrize("precision", [name for name, recipe in RECIPES.items() if not recipe.matrix])
@pytest.mark.parametrize("optimizer", [name for name, method in OPTIMIZERS.items() if method.kept == "moments"])
def test_an_optimizer_s_temporaries_come_with_every_recipe(precision, optimizer):
    # Bytes a parameter: weights, gradients, masters and moments of 4, and foreach's list, as wide as a moment. GPT-2's
    # table of 38,597,376 comes first and is the largest: AdamW makes two numbers of each of its own at a time.
    state = {"mixed-16": 8, "mixed-18": 10, "mixed-20": 12, "amp": 8, "fsdp-bf16": 8, "fp32": 8, "bf16": 4}[precision]
    moment = 2 if precision == "bf16" else 4
    moments = {"sgd": 1, "sgd-plain": 0}.get(optimizer, 2)
    state += moments * moment
    once = {"adamw-foreach": 124_439_808, "adamw": 2 * 38_597_376}.get(optimizer, 0) * moment
    run = Run(sequence=1, attention="flash")
    step = {p.phase: p.bytes for p in memory(archcalc.load("gpt2"), run, Keeping(precision, optimizer)).phases}["step"]
    assert 0 <= step - state * 124_439_808 - once < 1000  # a counter for each of 196 tensors, numbers, the batch


def test_nanogpt_under_autocast_with_foreach_takes_20_bytes_a_parameter():
    # fp32 weights, gradients and two moments, and the roots of all second moments at once
    model, run = archcalc.load("gpt2"), Run(sequence=1, attention="flash")
    for precision in ("amp", "fp32", "mixed-16"):
        step = memory(model, run, Keeping(precision, "adamw-foreach")).phases[-1]
        assert step.phase == "step"
        assert step.bytes == pytest.approx(20 * 124_439_808, rel=1e-6)


def test_all_tensors_at_once_take_a_list_as_large_as_a_moment():
    # torch.optim.AdamW(foreach=True) makes the roots of all second moments before it divides by any
    model, run = archcalc.load("gpt2"), Run(sequence=1, attention="flash")
    one, every = (memory(model, run, Keeping("fp32", optimizer)) for optimizer in ("adamw", "adamw-foreach"))
    assert every.peak == "step, the optimizer"
    assert every.total == every.state + 4 * 124_439_808 + 12 + 16 + 4  # a number in two types, the batch, the loss
    assert one.total < every.total


def test_a_mask_is_made_once_for_all_groups_of_layers():
    model = archcalc.load("tiny@context_length=256")
    both = model.model_copy(update={"layers": (*model.layers, *model.layers)})
    run = Run(sequence=200, attention="math")
    for keeping in (Keeping("fp32"), Keeping("fp32", recompute="full"), Keeping("fp32", recompute="selective")):
        one = memory(
            model.model_copy(update={"layers": (model.layers[0].model_copy(update={"repeat": 10}),)}), run, keeping
        )
        assert memory(both, run, keeping).total == one.total


def test_formulas_of_many_groups_of_layers_come_in_time():
    model = archcalc.load("tiny")
    many = model.model_copy(update={"layers": model.layers * 50})
    used = lettered_memory(many, Run(sequence=8, attention="flash"), Keeping())
    assert used.total.value == memory(many, Run(sequence=8, attention="flash"), Keeping()).total
    assert len(used.total.letters) > 250


@given(limit=st.integers(1, 300), edge=st.integers(0, 400))
def test_the_most_that_fits_is_found(limit, edge):
    asked = []

    def fits(n):
        asked.append(n)
        return n <= edge

    assert most(fits, limit) == min(limit, edge)
    assert all(1 <= n <= limit for n in asked)


def test_a_fit_says_how_far_batch_and_context_could_grow():
    model, run, device = archcalc.load("gpt2"), Run(batch=4, sequence=512, attention="flash"), find_device("rtx-4090")
    used = memory(model, run, Keeping())
    found = fit(model, run, Keeping(), used, device)
    seen = device.visible_bytes
    assert (found.basis, found.capacity, found.usable) == ("visible", seen, seen - seen * RESERVE // 100)
    assert found.fits
    assert found.left == found.usable - used.total
    for n, fits in ((found.largest_batch, True), (found.largest_batch + 1, False)):
        assert (peak_bytes(model, run._replace(batch=n), Keeping()) <= found.usable) is fits
    assert found.longest_context == 1024
    assert (found.devices_at_least, found.devices_if_even) == (1, 1)


def test_a_fit_uses_what_a_program_sees_where_that_was_measured():
    device = find_device("a100-40gb")
    assert usable(device, 0) == device.visible_bytes
    model, run = archcalc.load("gpt3-175b"), Run(sequence=2048, attention="flash")
    used = memory(model, run, Keeping())
    found = fit(model, run, Keeping(), used, device, 0)
    assert found.basis == "visible"
    assert not found.fits
    assert (found.largest_batch, found.longest_context) == (0, 0)
    assert found.devices_at_least == -(-used.state // (40 * 2**30)) == 66
    assert found.devices_if_even == -(-used.total // device.visible_bytes) == 67


def test_a_fit_takes_the_label_where_nobody_measured():
    device = find_device("tpu-v5e")
    assert usable(device, 0) == 16 * 10**9
    model, run = archcalc.load("gpt2"), Run(sequence=1024, attention="flash")
    assert fit(model, run, Keeping(), memory(model, run, Keeping()), device).basis == "label"


@pytest.mark.parametrize("name", device_names())
def test_a_bound_from_below_takes_the_most_that_a_label_can_mean(name):
    device = find_device(name)
    number, unit = device.capacity.label.split()
    assert unit in ("GB", "GiB")
    assert device.largest_bytes >= int(number) * 2**30
    assert usable(device) < capacity(device) <= device.largest_bytes
    run = Run(sequence=2048, attention="flash")
    model = archcalc.load("gpt3-175b")
    used = memory(model, run, Keeping())
    found = fit(model, run, Keeping(), used, device)
    most = device.largest_bytes
    assert (found.devices_at_least - 1) * most < used.state <= found.devices_at_least * most


def test_what_is_called_exact_was_run():
    """Every recipe, choice and kernel: a step that PyTorch was not run with has no exact part but its parameters."""
    model = archcalc.load("gpt2")
    for precision in RECIPES:
        for recompute in ("none", "selective", "full"):
            for dropout in (False, True):
                run = Run(batch=16, sequence=1024, attention="flash", dropout=dropout)
                keeping = Keeping(precision, recompute=recompute)
                terms = {term.name: term for term in memory(model, run, keeping).terms}
                kinds = {terms[name].kind for name in ("saved activations", "saved by the head")}
                try:
                    by_ranks = keeping.recipe.gathered  # processes take such steps, by the same rule otherwise
                    refuse_unrun(run, keeping._replace(precision="bf16") if by_ranks else keeping)
                    assert kinds == {"exact"}
                    assert "exact on small steps" in terms["temporaries"].witness
                except Invalid:
                    assert kinds == {"modelled"}
                    assert "exact" not in terms["temporaries"].witness
    math = memory(model, Run(batch=16, sequence=1024, attention="math"), Keeping("fp32"))
    assert "exact" not in next(term.witness for term in math.terms if term.name == "temporaries")
    for precision in RECIPES:  # torch.optim does not step fp32 weights by bf16 gradients
        step = memory(model, Run(sequence=1, attention="flash"), Keeping(precision, "adamw-foreach"))
        made = next(term for term in step.terms if term.name == "temporaries")
        assert ("not measured" in made.witness) is (precision in ("mixed-16", "mixed-20", "fp8-13"))
