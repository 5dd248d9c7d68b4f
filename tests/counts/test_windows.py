"""Windows and chunks: the pairs that are scored, and the keys and values that are kept, against plain counting."""

import numpy as np
import pytest
from drawn import changed
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st

import archcalc
from archcalc.blocks import MultiHead
from archcalc.counts.activations import cache
from archcalc.counts.flops import flops
from archcalc.tape.run import Run

TINY = archcalc.load("tiny@context_length=4k,n_layers=3")
HEADS, D_HEAD, LAYERS = 4, 32, 3
LIMITS = st.one_of(st.none(), st.integers(1, 40))


def limited(window, chunk):
    return changed(TINY, MultiHead, lambda a: a.model_copy(update={"window": window, "chunk": chunk}))


def seen(position, window, chunk):
    """The positions that a query sees: itself and what came before, in its window and its chunk."""
    first = 0 if chunk is None else position // chunk * chunk
    if window is not None:
        first = max(first, position - window + 1)
    return range(first, position + 1)


def scored(model, run):
    """The pairs of one layer, by the FLOPs of its scores: 2 a pair, head and feature."""
    scores = next(part for part in flops(model, run).categories if part.category == "scores")
    pairs, rest = divmod(scores.forward, 2 * LAYERS * HEADS * D_HEAD)
    return pairs if rest == 0 else pairs + 0.5


@given(st.integers(1, 100), LIMITS, LIMITS)
def test_exact_pairs_are_those_that_the_mask_lets_through(length, window, chunk):
    brute = sum(len(seen(i, window, chunk)) for i in range(length))
    assert scored(limited(window, chunk), Run(sequence=length, causal="exact")) == brute


@given(st.integers(1, 100), LIMITS, LIMITS)
def test_half_pairs_count_a_position_with_itself_by_half(length, window, chunk):
    brute = sum(len(seen(i, window, chunk)) for i in range(length)) - length / 2
    assert scored(limited(window, chunk), Run(sequence=length, causal="half")) == brute


@given(st.integers(1, 100), LIMITS, LIMITS)
def test_all_pairs_are_scored_and_masked_by_the_default(length, window, chunk):
    assert scored(limited(window, chunk), Run(sequence=length)) == length * length


@given(st.integers(1, 100), LIMITS, LIMITS)
def test_one_more_token_reads_what_its_query_sees(length, window, chunk):
    run = Run("decode", context=length)
    assert scored(limited(window, chunk), run) == len(seen(length - 1, window, chunk))


@given(st.integers(1, 9), st.integers(1, 100), LIMITS, LIMITS)
def test_a_cache_keeps_a_window_or_a_chunk_and_no_more(batch, length, window, chunk):
    kept = min(n for n in (length, window, chunk) if n is not None)
    each = 2 * LAYERS * HEADS * D_HEAD * 2  # keys and values of one position in bf16
    model, run = limited(window, chunk), Run("prefill", batch, length)
    assert cache(model, run, 2) == batch * kept * each
    assert cache(model, run, 2, paged=True) == batch * length * each


@settings(max_examples=few(5, prove=100))
@given(st.lists(st.tuples(st.integers(1, 100), st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6))
def test_arrays_of_lengths_windows_and_chunks_count_each_row_by_itself(rows):
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    for limits in ((0,), (1,), (0, 1)):
        window, chunk = (columns[1 + i] if i in limits else None for i in (0, 1))
        many = limited(window, chunk)
        for causal in ("full", "half", "exact"):
            found = flops(many, Run(sequence=columns[0], causal=causal)).forward
            held = cache(many, Run("prefill", 1, columns[0]), 2)
            for i, (length, *one) in enumerate(rows):
                alone = limited(*(n if at in limits else None for at, n in enumerate(one)))
                assert found[i] == flops(alone, Run(sequence=length, causal=causal)).forward
                assert held[i] == cache(alone, Run("prefill", 1, length), 2)


# Caches of published models, by hand.


def gemma2(context):
    """Gemma Team 2024, arXiv:2408.00118, Table 1: 9B has 42 layers of 8 key/value heads of 256, every second with a
    window of 4,096 positions.
    """
    return 2 * 8 * 256 * 2 * (21 * min(context, 4_096) + 21 * context)


@pytest.mark.parametrize("context", [1, 4_095, 4_096, 4_097, 8_192])
def test_gemma_2_keeps_a_window_in_every_second_layer(context):
    assert cache(archcalc.load("gemma2-9b"), Run("prefill", 1, context), 2) == gemma2(context)


def test_mistral_keeps_a_rolling_buffer():
    # Jiang et al. 2023, arXiv:2310.06825, Table 1 and section 2: 32 layers, 8 key/value heads of 128, window 4,096; on
    # 32k tokens "this reduces the cache memory usage by 8x".
    model = archcalc.load("mistral-7b-v0.1@context_length=32k")
    kept = cache(model, Run("prefill", 1, 32_768), 2)
    assert kept == 2 * 32 * 8 * 128 * 2 * 4_096
    assert cache(model, Run("prefill", 1, 32_768), 2, paged=True) == 8 * kept
