"""Arrays of sizes count what each of their sizes counts alone, whatever type of number they have, or are refused."""

import numpy as np
import pytest

import archcalc
from archcalc.counts.quantities import QUANTITIES, Asked
from archcalc.tape.run import Run

MODEL = archcalc.load("gpt2")
LONG = MODEL.model_copy(update={"context_length": 2**20})
TYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("causal", ["full", "half", "exact"])
def test_every_type_of_number_counts_the_same(kind, causal):
    largest = int(np.iinfo(kind).max) if np.dtype(kind).kind in "iu" else 2048
    sizes = [1, 100, min(largest, 2**20)]
    array = np.array(sizes, dtype=kind)
    for field in ("batch", "sequence"):
        counted = archcalc.flops(LONG, Run(**{field: array}, causal=causal))
        for n, one in zip(sizes, counted.training, strict=True):
            true = archcalc.flops(LONG, Run(**{field: n}, causal=causal)).training
            assert float(one) == pytest.approx(float(true), rel=1e-12), (field, n)


@pytest.mark.parametrize("kind", TYPES)
def test_sizes_of_a_model_count_the_same_in_every_type(kind):
    widths = [12, 96]
    model = MODEL.model_copy(update={"d_model": np.array(widths, dtype=kind)})
    for width, one in zip(widths, archcalc.params(model).stored, strict=True):
        assert float(one) == archcalc.params(MODEL.model_copy(update={"d_model": width})).stored


def test_every_quantity_of_narrow_arrays_is_that_of_single_sizes():
    keeping = archcalc.Keeping()
    many = Run(batch=np.array([3, 100], np.int8), sequence=np.array([1024, 7], np.int16))
    asked = Asked(MODEL, many, many, keeping)
    for at, (batch, sequence) in enumerate([(3, 1024), (100, 7)]):
        run = Run(batch=batch, sequence=sequence)
        alone = Asked(MODEL, run, run, keeping)
        for name, quantity in QUANTITIES.items():
            found = np.broadcast_to(quantity.of(asked), (2,))[at]
            assert float(found) == pytest.approx(quantity.of(alone), rel=1e-12), name


REFUSED = {
    "Run(sequence=np.array([1024, 2000]))": "Run: sequence: must be from 1 to 1,024; got 2,000",
    "Run('decode', context=np.array([5, 1025]))": "Run: context: must be from 1 to 1,024; got 1,025",
    "Run('decode', sequence=np.array([1, 2]), context=9)": "Run: sequence: must be 1 for decode, which adds one "
    "position to each sequence; got 2; set context instead",
    "Run(batch=np.array([], dtype=int))": "Run: batch: is empty",
    "Run(batch=np.array([1, 0]))": "Run: batch: must be from 1 to 4,294,967,296; got 0",
    "Run(batch=np.array([1, -3], np.int8))": "Run: batch: must be from 1 to 4,294,967,296; got -3",
    "Run(batch=np.array([2**33, 1]))": "Run: batch: must be from 1 to 4,294,967,296; got 8,589,934,592",
    "Run(batch=np.array([2**64 - 1], np.uint64))": "Run: batch: must be from 1 to 4,294,967,296; got "
    "18,446,744,073,709,551,616",
    "Run(batch=np.array([1, np.nan]))": "Run: batch: must be an integer; got nan",
    "Run(batch=np.array([np.inf]))": "Run: batch: must be from 1 to 4,294,967,296; got inf",
    "Run(batch=np.array([1, 2]), sequence=np.array([1, 2, 3]))": "Run: batch, sequence: must be arrays of one shape; "
    "got [(2,), (3,)]",
}


@pytest.mark.parametrize(("made", "message"), REFUSED.items())
def test_arrays_keep_the_limits_of_single_sizes(made, message):
    with pytest.raises(archcalc.Invalid) as error:
        archcalc.flops(MODEL, eval(made))  # noqa: S307  (our own table)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "run", [Run(sequence=np.array([512, 1024])), Run("prefill", batch=np.array([1, 2], np.int8))], ids=["seq", "batch"]
)
def test_memory_refuses_arrays_and_names_the_sweep(run):
    with pytest.raises(archcalc.Invalid, match=r"no arrays; archcalc\.sweep counts the column memory\.total for many"):
        archcalc.memory(MODEL, run)


def test_memory_refuses_a_model_of_arrays():
    with pytest.raises(archcalc.Invalid, match="no arrays"):
        archcalc.memory(MODEL.model_copy(update={"vocab_size": np.array([5, 6])}), Run())


def test_sizes_of_a_model_and_a_run_are_arrays_of_one_shape():
    model = MODEL.model_copy(update={"vocab_size": np.array([5, 6])})
    with pytest.raises(archcalc.Invalid, match="arrays of one shape"):
        archcalc.flops(model, Run(batch=np.array([1, 2, 3])))


@pytest.mark.parametrize(
    "count", [archcalc.params, lambda m: archcalc.flops(m, Run()), lambda m: archcalc.memory(m, Run())]
)
def test_a_model_of_no_layers_is_refused(count):
    with pytest.raises(archcalc.Invalid, match="layers"):
        count(MODEL.model_copy(update={"layers": ()}))


@pytest.mark.parametrize("values", [{1: 2}, {}, {4: None}.items().mapping])
def test_a_mapping_is_no_list_of_sizes(values):
    for name in ("batch", "n_layers"):
        with pytest.raises(archcalc.Invalid, match="must be sizes"):
            archcalc.sweep(MODEL, {name: values})
