"""Optimizers beside AdamW and SGD: what they keep by the shapes of tensors, and what PyTorch's own keep and make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import archcalc
from archcalc import Keeping, Run, memory, strategies
from archcalc.counts.optimizer import kept_state, orthogonalizing
from archcalc.counts.parameters import Stored, params
from archcalc.proof.allocator import cut_down, make_optimizer, predicted_step, record_step

GPT2 = 124_439_808


def state(model, keeping):
    return kept_state(params(model), keeping)["optimizer state"]


def test_adafactor_keeps_rows_and_columns_of_gpt2():
    # Two tables; of 12 layers query, key, value and output (768 + 768), two of the MLP (3,072 + 768), and of vectors
    # all: two norms (2 x 768 each), biases of four projections, 3,072 and 768; the final norm. A step of 4 bytes for
    # each of 2 + 12 x 16 + 2 tensors.
    matrices = (50_257 + 768) + (1_024 + 768) + 12 * (4 * (768 + 768) + 2 * (3_072 + 768))
    vectors = 12 * (2 * 2 * 768 + 4 * 768 + 3_072 + 768) + 2 * 768
    assert state(archcalc.load("gpt2"), Keeping("fp32", "adafactor")) == 4 * (matrices + vectors) + 4 * (
        2 + 12 * 16 + 2
    )


def test_muon_keeps_one_number_of_a_layer_s_matrices_and_two_of_all_else():
    matrices = 12 * 12 * 768 * 768  # four projections of 768 x 768, and two of 3,072 x 768
    others = 2 + 12 * 10 + 2  # tables; norms and biases of each layer; the final norm
    found = state(archcalc.load("gpt2"), Keeping("fp32", "muon"))
    assert found == 4 * (matrices + 2 * (GPT2 - matrices)) + 4 * others


def test_moments_of_8_bits_have_a_scale_for_256_numbers():
    # bitsandbytes 0.50: tensors of 4,096 numbers and more; here all of a layer but norms and biases.
    large = [50_257 * 768, 1_024 * 768, *(12 * [*(4 * [768 * 768]), *(2 * [3_072 * 768])])]
    small = GPT2 - sum(large)
    blocks = sum(-(-n // 256) for n in large)
    assert state(archcalc.load("gpt2"), Keeping("bf16", "adamw-8bit")) == (
        2 * sum(large) + 2 * 4 * blocks + 8 * small + 2 * 256 * 4
    )


def test_moments_of_8_bits_are_those_that_bitsandbytes_keeps():
    torch, library = pytest.importorskip("torch"), pytest.importorskip("bitsandbytes")
    shapes = [(300,), (63, 65), (64, 64), (4_096,), (1_000, 777)]
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    optimizer = library.optim.AdamW8bit(weights)
    optimizer.step()
    kept = [x for one in optimizer.state.values() for x in one.values() if torch.is_tensor(x)]
    found = sum({x.data_ptr(): x.nbytes for x in kept}.values())
    model = archcalc.load("gpt2")
    tensors = tuple(Stored(f"{i}", s, 1, None, torch.Size(s).numel(), "biases") for i, s in enumerate(shapes))
    counts = params(model)._replace(tensors=tensors)
    assert kept_state(counts, Keeping("fp32", "adamw-8bit"))["optimizer state"] == found


def test_muon_steps_each_expert_s_matrix_for_itself():
    one = Stored("layers.{i}.up.weight", (8, 64, 32), 1, None, 8 * 64 * 32, "up_projection", of_experts=True)
    # an update of 64 x 32 numbers in fp32, two iterates in bf16, two products of 32 x 32 in bf16
    assert orthogonalizing(one, 4) == 64 * 32 * (4 + 2 + 2) + 2 * 2 * 32 * 32


@pytest.mark.parametrize("optimizer", ["adafactor", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_needs_what_pytorch_s_allocator_records(optimizer, precision):
    pytest.importorskip("torch")
    model, run = cut_down(archcalc.load("gpt2@d_model=192,n_heads=4,vocab_size=500"))
    keeping = Keeping(precision, optimizer, statistic=2 if precision == "bf16" else 4)
    recorded, counted = record_step(model, run, keeping), predicted_step(model, run, keeping)
    assert 0 <= recorded.step - counted.step < 2**18  # norms and products have some bytes inside


@given(model=strategies.models(), optimizer=st.sampled_from(["adafactor", "muon"]))
def test_pytorch_s_own_keep_as_much_of_any_model(model, optimizer):
    torch = pytest.importorskip("torch")
    from archcalc_reference import Transformer

    with torch.device("meta"):
        reference = Transformer(model)
    named = {name: weight for name, weight in reference.named_parameters() if weight.requires_grad}
    keeping = Keeping("fp32", optimizer)
    if any(weight.ndim > 2 for weight in named.values()) and optimizer == "muon":
        return  # torch.optim.Muon takes matrices alone
    named = {name: torch.nn.Parameter(torch.zeros(weight.shape)) for name, weight in named.items()}
    for weight in named.values():
        weight.grad = torch.zeros_like(weight)
    mine = make_optimizer(keeping, named)
    mine.step()
    kept = [x for one in mine.state.values() for x in one.values() if torch.is_tensor(x)]
    assert sum(x.nbytes for x in kept) == state(model, keeping)


@given(model=strategies.models(), width=st.sampled_from(["fp32", "bf16"]))
def test_each_of_them_keeps_less_than_two_moments(model, width):
    most = state(model, Keeping(width, "adamw"))
    assert state(model, Keeping(width, "adafactor")) <= most
    assert state(model, Keeping(width, "muon")) <= most


def test_what_a_sheet_says_of_them():
    model, run = archcalc.load("gpt2@vocab_size=64"), Run(sequence=1, attention="flash")
    for optimizer, how in (("muon", "within 0.1%"), ("adafactor", "within 0.1%"), ("adamw", "exact")):
        used = memory(model, run, Keeping("fp32", optimizer))
        assert used.peak == "step, the optimizer"
        assert how in {term.name: term.witness for term in used.terms}["temporaries"]
