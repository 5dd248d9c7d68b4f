"""Decoding by work that is the same at every position: recorded once and replayed, it finds what the model finds."""

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402
from variants import CONTEXT, RMS, VARIANTS, VOCABULARY, gated, layer, scaled, spec, variant  # noqa: E402

import archcalc  # noqa: E402
from archcalc.spec.model import Model  # noqa: E402
from archcalc_reference import Transformer  # noqa: E402
from archcalc_reference.model import decoding  # noqa: E402
from archcalc_reference.model.decoding import FixedStep, decodes  # noqa: E402
from archcalc_reference.model.generation import generate  # noqa: E402
from archcalc_reference.model.sampling import Sampling  # noqa: E402
from archcalc_reference.model.transformer import Cache  # noqa: E402

READ, SAMPLES, NEAR = 3, 2, 1e-5
NOT_SERVED = {"chunk", "gemma2"}  # chunks; capped scores
SERVED = sorted(VARIANTS.keys() - NOT_SERVED)
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible")


class Recorder(TorchDispatchMode):
    """Every kernel that is launched, with the very tensors and numbers that it is given."""

    def __init__(self):
        super().__init__()
        self.launched = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.launched.append((func, args, kwargs or {}, made))
        return made


def replayed(work):
    """What a CUDA graph is, without a GPU: the same kernels in the same memory, and nothing of Python between them."""
    work()
    with Recorder() as recorder:
        found = work()

    def again():
        for func, args, kwargs, made in recorder.launched:
            for old, new in zip(tree_leaves(made), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)
        return found

    return again


def small(name, device="cpu"):
    torch.manual_seed(1)
    return Transformer(variant(name)).eval().to(device)


@pytest.fixture
def small_rooms(monkeypatch):
    """Rooms so small that a text outgrows several."""
    monkeypatch.setattr(decoding, "SMALLEST_ROOM", 8)


def apart(name, record, device="cpu"):
    """The largest difference of logits from those of the model's own forward pass, over a whole context."""
    model = small(name, device)
    tokens = torch.randint(VOCABULARY, (SAMPLES, CONTEXT), device=device)
    one, other = (Cache(model.spec, SAMPLES, CONTEXT, device=device) for _ in range(2))
    for kept in other.tensors:
        kept.fill_(torch.nan)  # as memory may be
    with torch.inference_mode():
        assert decodes(model, other)
        for cache in (one, other):
            model(tokens[:, :READ], kernel="flash", cache=cache)
        step = FixedStep(model, other, record)
        pairs = [
            (model(new, kernel="flash", cache=one).logits[:, -1], step(new)) for new in tokens[:, READ:].split(1, 1)
        ]
        with pytest.raises(ValueError, match=f"{CONTEXT + 1} tokens; the context holds {CONTEXT}"):
            step(tokens[:, :1])
    assert other.filled == CONTEXT
    return torch.stack([(expected - found).abs().max() for expected, found in pairs]).max()


@pytest.mark.usefixtures("small_rooms")
@pytest.mark.parametrize("name", SERVED)
def test_replayed_work_finds_what_the_model_finds(name):
    assert apart(name, replayed) <= NEAR


@pytest.mark.usefixtures("small_rooms")
@CUDA
@pytest.mark.parametrize("name", SERVED)
def test_a_cuda_graph_finds_what_the_model_finds(name):
    assert apart(name, decoding.captured, "cuda") <= NEAR


@pytest.mark.parametrize("name", ["gpt2", "llama", "window", "alibi"])
def test_nothing_of_the_position_is_in_what_is_launched(name):
    """Two tokens, of which the second stands one place on: the same kernels, shapes and numbers."""
    model = small(name)
    tokens = torch.randint(VOCABULARY, (SAMPLES, 3))
    cache = Cache(model.spec, SAMPLES, CONTEXT)

    def launched(new):
        with Recorder() as recorder:
            step(new)
        return [
            (func, [tuple(x.shape) if isinstance(x, torch.Tensor) else x for x in tree_leaves((args, kwargs))])
            for func, args, kwargs, _ in recorder.launched
        ]

    with torch.inference_mode():
        step = FixedStep(model, cache, lambda work: work)
        step(tokens[:, :1])  # which makes tables
        first, second = launched(tokens[:, 1:2]), launched(tokens[:, 2:])
    given = [(func, arguments) for func, arguments in first if func is torch.ops.aten.fill_.Scalar]
    assert given == [(torch.ops.aten.fill_.Scalar, [(1,), 1])], "where the token stands is told from outside"
    assert [entry for entry in second if entry[0] is not torch.ops.aten.fill_.Scalar] == [
        entry for entry in first if entry[0] is not torch.ops.aten.fill_.Scalar
    ]


@pytest.mark.usefixtures("small_rooms")
@pytest.mark.parametrize("name", ["gpt2", "llama", "local and global", "gemma2"])
@pytest.mark.parametrize("sampling", [Sampling(0), Sampling(1.3, top_k=20, seed=5)])
def test_generation_draws_the_same_tokens(name, sampling, monkeypatch):
    model = small(name)

    def drawn(*, graph=False):
        return [step.tokens_N for step in generate(model, [1, 2, 3], CONTEXT, sampling, samples=SAMPLES, graph=graph)]

    expected, works = drawn(), []
    monkeypatch.setitem(decoding.RECORDERS, "cpu", lambda work: works.append(work) or replayed(work))
    assert drawn() == expected
    assert not works, "a CUDA graph is asked for"
    assert drawn(graph=True) == expected
    assert len(expected) == CONTEXT - 3
    # rooms of 8, 16, 32 and 64 places
    assert len(works) == (0 if name in NOT_SERVED else 4)


@CUDA
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_generation_on_a_gpu_draws_what_a_cpu_draws(name):
    drawn = [
        [
            step.tokens_N
            for step in generate(small(name, device), [1, 2, 3], CONTEXT, Sampling(0), samples=SAMPLES, graph=True)
        ]
        for device in ("cpu", "cuda")
    ]
    assert drawn[0] == drawn[1]


@pytest.mark.usefixtures("small_rooms")
def test_logits_of_one_step_are_not_those_of_the_next():
    model = small("llama")
    cache = Cache(model.spec, 1, CONTEXT)
    with torch.inference_mode():
        step = FixedStep(model, cache, replayed)
        first = step(torch.tensor([[1]]))
        kept = first.clone()
        step(torch.tensor([[2]]))
    assert torch.equal(first, kept)


def of_shapes(model, length=None):
    with torch.device("meta"):
        return Transformer(model), Cache(model, 1, length or model.context_length)


@pytest.mark.parametrize(
    ("name", "served"),
    [
        ("smollm2-135m", True), ("gpt2", True), ("bloom-560m", True), ("mistral-7b-v0.1", True), ("gemma3-1b", True),
        ("mixtral-8x7b", False), ("deepseek-v2-lite", False), ("mamba-130m", False), ("lfm2-1.2b", False),
        ("gpt-oss-20b", False), ("gemma2-2b", False), ("llama4-scout-text", False), ("qwen3-next-80b-a3b", False),
    ],
)  # fmt: skip
def test_which_models_are_served(name, served):
    assert decodes(*of_shapes(archcalc.load(name))) is served


def test_sinusoids_are_not_served():
    assert not decodes(*of_shapes(Model.model_validate(spec(embedding={"positions": "sinusoidal"}))))


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_angles_that_change_with_the_length_are_served_while_they_do_not(kind):
    of_kind = {
        "dynamic": {"factor": 2.0},
        "longrope": {"short_factor": [1.0, 1.1, 1.2], "long_factor": [2.0, 3.0, 4.0]},
    }[kind]
    model = Model.model_validate(spec(scaled(kind=kind, **of_kind)))
    assert decodes(*of_shapes(model, 16)), "the original context"
    assert not decodes(*of_shapes(model, 17))


def test_a_model_that_is_watched_is_not_served():
    model, cache = of_shapes(Model.model_validate(spec(layer())))
    assert decodes(model, cache)
    hook = model.layers[1].register_forward_hook(lambda *_: None)
    assert not decodes(model, cache)
    hook.remove()
    assert decodes(model, cache)


def test_a_model_without_attention_is_not_served():
    alone = {"repeat": 1, "branches": [{"name": "mlp", "norm": RMS, "mixer": gated()}]}
    model = Model.model_validate(spec(alone))
    assert not decodes(*of_shapes(model))
