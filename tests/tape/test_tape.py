"""The tape records what a block computes, and refuses what cannot be."""

import pytest

import archcalc
from archcalc.blocks import LayerNorm, LinearUnembedding, MultiHead, PlainMLP, TokenEmbedding
from archcalc.blocks.unembedding import record_loss
from archcalc.counts.activations import kept
from archcalc.errors import TapeError
from archcalc.tape.ops import Op, Tensor, Weight
from archcalc.tape.recording import Tape
from archcalc.tape.run import Run

X = Tensor("x", ("B", "S", "D"))
R = Tensor("r", ("B", "N", "D"))
TABLE = Weight.of("table", "V D", "embedding")


def tape(**run):
    return Tape(Run(**run))


def lines(recorded: Tape) -> list[str]:
    """Every op of one device as text: kind, name, what goes in, what comes out."""
    return [
        f"{op.kind} {op.output.name}: "
        + ", ".join(f"{x.path if isinstance(x, Weight) else x.name}[{' '.join(x.labels)}]" for x in op.inputs)
        + f" -> [{' '.join(op.output.labels)}]"
        + ("" if op.output.role == "activation" else f" {op.output.role}")
        for op in recorded.resolved
    ]


def test_attention_is_recorded_as_the_reference_computes_it():
    t = tape()
    with t.scope("attention"):
        out = MultiHead(n_heads=4, n_kv_heads=2, d_head=8, bias=True).record(t, X)
    assert out.labels == ("B", "N", "D")
    core, after = "attention.attention_core", "attention.attention_core.softmax"
    assert lines(t) == [
        "contraction attention.query.product: x[B S D], attention.query.weight[G R K D] -> [B S G R K] fused",
        "pointwise attention.query.biased: attention.query.product[B S G R K], attention.query.bias[G R K] -> [B S G R K]",
        "contraction attention.key.product: x[B S D], attention.key.weight[G K D] -> [B S G K] fused",
        "pointwise attention.key.biased: attention.key.product[B S G K], attention.key.bias[G K] -> [B S G K] cache",
        "contraction attention.value.product: x[B S D], attention.value.weight[G W D] -> [B S G W] fused",
        "pointwise attention.value.biased: attention.value.product[B S G W], attention.value.bias[G W] -> [B S G W] cache",
        f"pointwise {core}.scores.by_head: attention.query.biased[B S G R K] -> [B S G R K]",
        f"pointwise {core}.scores.keys_by_head: attention.key.biased[B T G K] -> [B T G K] cache",
        f"contraction {core}.scores.product: {core}.scores.by_head[B S G R K], {core}.scores.keys_by_head[B T G K] -> [B G R S T]",
        f"pointwise {core}.scores.scaled: {core}.scores.product[B G R S T] -> [B G R S T]",
        f"pointwise {core}.scores.masked: {core}.scores.scaled[B G R S T], mask[S T] -> [B G R S T]",
        f"reduction {after}.maximum: {core}.scores.masked[B G R S T] -> [B G R S] fused",
        f"pointwise {after}.exponential: {core}.scores.masked[B G R S T], {after}.maximum[B G R S] -> [B G R S T] fused",
        f"reduction {after}.sum: {after}.exponential[B G R S T] -> [B G R S] fused",
        f"pointwise {after}.probabilities: {after}.exponential[B G R S T], {after}.sum[B G R S] -> [B G R S T]",
        f"pointwise {core}.mix.values_by_head: attention.value.biased[B T G W] -> [B T G W] cache",
        f"contraction {core}.mix.product: {after}.probabilities[B G R S T], {core}.mix.values_by_head[B T G W] -> [B S G R W]",
        f"pointwise {core}.mix.by_position: {core}.mix.product[B S G R W] -> [B S G R W]",
        f"contraction attention.output.product: {core}.mix.by_position[B S G R W], attention.output.weight[D G R W] -> [B S D] fused",
        "pointwise attention.output.biased: attention.output.product[B N D], attention.output.bias[D] -> [B N D]",
    ]


def test_keys_and_values_out_of_a_cache_are_in_the_order_of_heads():
    for phase in ("prefill", "decode"):
        t = tape(phase=phase)
        MultiHead(n_heads=1, n_kv_heads=1, d_head=8, bias=False).record(t, X)
        assert not [op for op in t.ops if op.output.name.endswith("s_by_head")]


def test_flash_attention_keeps_the_scores_in_its_kernel():
    t = tape(attention="flash")
    MultiHead(n_heads=1, n_kv_heads=1, d_head=8, bias=False).record(t, X)
    assert lines(t) == [
        "contraction query.product: x[B S D], query.weight[G R K D] -> [B S G R K]",
        "contraction key.product: x[B S D], key.weight[G K D] -> [B S G K] cache",
        "contraction value.product: x[B S D], value.weight[G W D] -> [B S G W] cache",
        "contraction attention_core.scores.product: query.product[B S G R K], key.product[B T G K] -> [B G R S T] fused",
        "reduction attention_core.softmax.logsumexp: attention_core.scores.product[B G R S T] -> [B G R S] float",
        "pointwise attention_core.softmax.probabilities: attention_core.scores.product[B G R S T], "
        "attention_core.softmax.logsumexp[B G R S] -> [B G R S T] fused",
        "contraction attention_core.mix.product: attention_core.softmax.probabilities[B G R S T], "
        "value.product[B T G W] -> [B S G R W]",
        "contraction output.product: attention_core.mix.product[B S G R W], output.weight[D G R W] -> [B S D]",
    ]


def test_the_core_of_attention_is_a_span_and_no_part_of_a_path():
    t = tape()
    with t.scope("layers.{i}"), t.scope("attention"):
        MultiHead(n_heads=1, n_kv_heads=1, d_head=8, bias=False).record(t, X)
    inside = [op for op in t.resolved if "attention_core" in op.spans]
    assert not any(op.weights for op in inside)
    assert inside[4].inputs[1] == Tensor("mask", ("S", "T"), "constant")
    assert [op.spans[-1] for op in inside] == ["scores"] * 5 + ["softmax"] * 4 + ["mix"] * 3
    assert all(op.spans[:2] == ("layers.{i}", "attention") for op in t.ops)
    assert [w.path for op in t.ops for w in op.weights] == [
        f"layers.{{i}}.attention.{name}.weight" for name in ("query", "key", "value", "output")
    ]


def test_heads_are_counted_one_matrix_each_and_the_output_once():
    t = tape()
    MultiHead(n_heads=1, n_kv_heads=1, d_head=8, bias=True).record(t, X)
    found = {w.path: w for op in t.ops for w in op.weights}
    assert {p: (w.part, w.each, w.matrix) for p, w in found.items() if p.endswith("weight")} == {
        "query.weight": ("query", ("G", "R"), (("K",), ("D",))),
        "key.weight": ("key", ("G",), (("K",), ("D",))),
        "value.weight": ("value", ("G",), (("W",), ("D",))),
        "output.weight": ("output", (), (("D",), ("G", "R", "W"))),
    }
    assert {w.part for p, w in found.items() if p.endswith("bias")} == {"biases"}
    assert found["query.bias"].axes == (("G", "R", "K"),)


def test_head_sizes_split_queries_over_key_value_heads():
    block = MultiHead(n_heads=12, n_kv_heads=4, d_head=8, bias=False)
    assert block.sizes() == {"G": 4, "R": 3, "K": 8, "W": 8}


def test_an_mlp_is_two_matrices_and_an_activation():
    t = tape()
    block = PlainMLP(d_ff=32, activation="gelu", bias=True)
    block.record(t, X)
    assert block.sizes() == {"F": 32}
    assert lines(t) == [
        "contraction up.product: x[B S D], up.weight[F D] -> [B S F] fused",
        "pointwise up.biased: up.product[B S F], up.bias[F] -> [B S F]",
        "pointwise gelu.activated: up.biased[B S F] -> [B S F]",
        "contraction down.product: gelu.activated[B S F], down.weight[D F] -> [B S D] fused",
        "pointwise down.biased: down.product[B N D], down.bias[D] -> [B N D]",
    ]
    assert [w.part for op in t.ops for w in op.weights] == ["up_projection", "biases", "down_projection", "biases"]


@pytest.mark.parametrize("bias", [True, False])
def test_a_layernorm_has_two_statistics_a_gain_and_perhaps_a_bias(bias):
    t = tape()
    with t.scope("norm"):
        LayerNorm(bias=bias).record(t, R)
    learned = ", norm.bias[D]" if bias else ""
    assert lines(t) == [
        "reduction norm.mean: r[B N D] -> [B N] statistic",
        "reduction norm.rstd: r[B N D] -> [B N] statistic",
        f"pointwise norm.normed: r[B N D], norm.mean[B N], norm.rstd[B N], norm.weight[D]{learned} -> [B N D]",
    ]
    assert {w.part for op in t.ops for w in op.weights} == {"norms"}


def test_the_embedding_reads_two_tables():
    t = tape()
    TokenEmbedding(positions="learned").record(t)
    assert lines(t) == [
        "lookup embedding.token.rows: token_ids[B S], embedding.token.weight[V D] -> [B S D]",
        "lookup embedding.position.rows: position_ids[N], embedding.position.weight[P D] -> [N D]",
        "pointwise embedding.position.added: embedding.token.rows[B N D], embedding.position.rows[N D] -> [B N D]",
    ]
    assert [w.part for op in t.ops for w in op.weights] == ["embedding", "positions"]
    assert [x.role for op in t.resolved for x in op.inputs[:1]] == ["index", "index", "activation"]


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_unembedding_reads_the_token_table(tied):
    t = tape()
    LinearUnembedding(tied=tied, bias=True).record(t, X)
    table = "embedding.token.weight" if tied else "unembedding.weight"
    assert lines(t) == [
        f"contraction unembedding.product: x[B S D], {table}[V D] -> [B S V] fused",
        "pointwise unembedding.biased: unembedding.product[B S V], unembedding.bias[V] -> [B S V]",
    ]
    assert [w.part for op in t.ops for w in op.weights] == ["unembedding", "biases"]


def test_the_loss_reduces_positions_and_never_gathers_logits():
    t = tape()
    record_loss(t, Tensor("logits", ("B", "S", "V")))
    assert lines(t) == [
        "pointwise loss.full_precision: logits[B S V] -> [B S V] float",
        "reduction loss.maximum: loss.full_precision[B S V] -> [B S] fused",
        "pointwise loss.exponential: loss.full_precision[B S V], loss.maximum[B S] -> [B S V] fused",
        "reduction loss.sum: loss.exponential[B S V] -> [B S] fused",
        "pointwise loss.log_probabilities:"
        " loss.full_precision[B S V], loss.maximum[B S], loss.sum[B S] -> [B S V] float",
        "lookup loss.picked: targets[B S], loss.log_probabilities[B S V] -> [B S] fused",
        "reduction loss.weight: loss.picked[B S] -> [] float",
        "reduction loss.total: loss.picked[B S] -> [] fused",
        "pointwise loss.mean: loss.total[], loss.weight[] -> [] float",
    ]
    assert t.ops[5].inputs[0].role == "index"
    assert saves(t) == ["loss.log_probabilities float", "targets index", "loss.weight float"]


def saves(recorded: Tape) -> list[str]:
    """What the backward pass reads again, each once, with its role."""
    return [f"{x.name} {x.role}" for x in kept(recorded.resolved).values()]


def test_math_attention_saves_what_each_product_needs_and_the_probabilities():
    t = tape()
    MultiHead(n_heads=1, n_kv_heads=1, d_head=8, bias=False).record(t, X)
    assert saves(t) == [
        "x activation",
        "attention_core.scores.by_head activation",
        "attention_core.scores.keys_by_head cache",
        "attention_core.softmax.probabilities activation",
        "attention_core.mix.values_by_head cache",
        "attention_core.mix.by_position activation",
    ]


def test_flash_attention_saves_one_statistic_in_place_of_the_probabilities():
    t = tape(attention="flash")
    MultiHead(n_heads=1, n_kv_heads=1, d_head=8, bias=False).record(t, X)
    assert saves(t) == [
        "x activation",
        "query.product activation",
        "key.product cache",
        "attention_core.softmax.logsumexp float",
        "value.product cache",
        "attention_core.mix.product activation",
    ]
    assert [(op.output.name, op.repeats) for op in t.ops if op.repeats] == [("attention_core.scores.product", 1)]


def test_an_mlp_saves_its_input_and_both_sides_of_its_activation():
    t = tape()
    PlainMLP(d_ff=32, activation="gelu", bias=True).record(t, X)
    assert saves(t) == ["x activation", "up.biased activation", "gelu.activated activation"]


def test_a_norm_saves_its_input_and_two_statistics():
    t = tape()
    LayerNorm(bias=True).record(t, R)
    assert saves(t) == ["r activation", "mean statistic", "rstd statistic"]


def test_lookups_save_their_indexes():
    t = tape()
    TokenEmbedding(positions="learned").record(t)
    assert saves(t) == ["token_ids index", "position_ids index"]


def test_dropout_saves_a_mask_and_is_nothing_where_nothing_is_dropped():
    t = tape()
    assert t.dropout("drop", X) is X
    assert t.ops == []
    t = tape(dropout=True)
    with t.scope("mlp"):
        assert t.dropout("drop", X).labels == X.labels
    assert lines(t) == ["pointwise mlp.drop.dropped: x[B S D], mlp.drop.mask[B S D] -> [B S D]"]
    assert saves(t) == ["mlp.drop.mask mask"]
    assert t.ops[0].per_point == 2  # kept or not, and scaled


def test_dropout_stands_in_three_places_of_a_layer_and_after_the_embedding():
    segments = archcalc.load("tiny").record(Run(dropout=True)).segments
    masks = [x.name for s in segments for op in s.tape.ops for x in op.inputs if getattr(x, "role", "") == "mask"]
    assert masks == [
        "embedding_dropout.mask",
        "layers.{i}.attention.attention_core.probabilities_dropout.mask",
        "layers.{i}.attention_dropout.mask",
        "layers.{i}.mlp_dropout.mask",
    ]


def test_recomputed_spans_save_their_inputs():
    t = tape()
    MultiHead(n_heads=1, n_kv_heads=1, d_head=8, bias=False).record(t, X)
    assert list(kept(t.resolved, "attention_core")) == [
        "x",
        "attention_core.mix.by_position",
        "query.product",
        "key.product",
        "value.product",
    ]
    layer = archcalc.load("tiny").record().segments[1]
    assert list(kept(layer.ops, "layers.{i}")) == ["residual"]


def test_a_query_and_a_key_position_are_a_pair():
    t = tape()
    MultiHead(n_heads=1, n_kv_heads=1, d_head=8, bias=False).record(t, X)
    spaces = {op.spans[-1]: " ".join(op.space) for op in t.ops if op.kind == "contraction"}
    assert spaces["scores"] == "B Q G R K"
    assert set(spaces["mix"].split()) == set("BGRQW")
    softmax = next(op for op in t.ops if op.output.name.endswith("exponential"))
    assert softmax.space == ("B", "G", "R", "S", "T")


def test_pointwise_work_is_a_model_of_each_step():
    def work(block, *arguments):
        t = tape()
        block.record(t, *arguments)
        return [op.per_point for op in t.resolved if op.kind != "contraction"]

    assert work(MultiHead(n_heads=1, n_kv_heads=1, d_head=8, bias=False), X) == [0, 0, 1, 1, 1, 2, 1, 1, 0, 0]
    assert work(PlainMLP(d_ff=8, activation="gelu", bias=False), X) == [5]
    assert work(PlainMLP(d_ff=8, activation="gelu_tanh", bias=True), X) == [1, 9, 1]
    for activation in ("gelu", "gelu_tanh"):  # op by op it is the same work
        t = tape(activation="eager")
        PlainMLP(d_ff=8, activation=activation, bias=False).record(t, X)
        assert sum(op.per_point for op in t.ops if op.kind == "pointwise") == {"gelu": 5, "gelu_tanh": 9}[activation]
    assert work(LayerNorm(bias=True), R) == [1, 3, 4]
    assert work(LayerNorm(bias=False), R) == [1, 3, 3]
    assert work(TokenEmbedding(positions="learned")) == [0, 0, 1]
    t = tape(attention="flash")
    MultiHead(n_heads=1, n_kv_heads=1, d_head=8, bias=False).record(t, X)
    assert [op.per_point for op in t.resolved if op.kind != "contraction"] == [6, 1]  # as many as math attention's
    t = tape()
    record_loss(t, Tensor("logits", ("B", "S", "V")))
    assert [op.per_point for op in t.ops] == [0, 1, 2, 1, 2, 0, 0, 1, 1]


def test_a_run_sizes_positions_three_ways():
    assert Run(batch=2, sequence=9).sizes() == {"B": 2, "N": 9, "S": 9, "T": 9, "Q": 81}
    assert Run("decode", 2, context=9).sizes() == {"B": 2, "N": 1, "S": 1, "T": 9, "Q": 9}
    assert Run().sizes() == {"B": 1, "N": 1, "S": 1, "T": 1, "Q": 1}
    assert Run("prefill", logits="last").head_sizes() == {"N": 1, "S": 1}
    assert Run().head_sizes() == {}


def test_relabel_keeps_name_and_role():
    keys = Tensor("k", ("B", "S", "G"), "cache")
    assert keys.relabel(S="T") == Tensor("k", ("B", "T", "G"), "cache")
    with pytest.raises(TapeError, match=r"^k: no label 'N' among 'B S G'$"):
        keys.relabel(N="S")


def test_an_op_ranges_over_each_of_its_labels_once():
    op = Op("contraction", (X, TABLE), Tensor("y", ("B", "S", "V")), ())
    assert op.space == ("B", "S", "D", "V")
    assert op.weights == (TABLE,)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda t: t.contract("y", "B S F", X), "y: output label 'F' is in no input"),
        (lambda t: t.contract("y", "B S D", X), "y: a contraction that sums over nothing is pointwise"),
        (
            lambda t: t.pointwise("y", X, Weight.of("w", "F", "biases")),
            "y: an input has a label that 'B S D' lacks",
        ),
        (lambda t: t.reduce("y", X, "F"), "y: no label 'F' to fold among 'B S D'"),
        (
            lambda t: t.lookup("y", "B D", Tensor("i", ("B", "S"), "index"), TABLE),
            "y: a lookup has the labels of its index",
        ),
        (
            lambda t: t.lookup("y", "B S V D T", Tensor("i", ("B", "S"), "index"), TABLE),
            "y: output label 'T' is in no input",
        ),
        (
            lambda t: [t.pointwise("y", X), t.pointwise("y", X)],
            "y: a tensor of this name is on the tape already",
        ),
        (
            lambda t: [
                t.contract("y", "B S V", X, TABLE),
                t.contract("z", "B S F", X, Weight.of("table", "F D", "key")),
            ],
            "table: used with two shapes, (('V',), ('D',)) and (('F',), ('D',))",
        ),
        (lambda _: Weight.of("w", "F D", ""), "w: belongs to no category and no term of the bridge"),
        (lambda _: Weight.of("w", "F D", "key", each="G"), "w: counted per 'G', which it lacks"),
    ],
)
def test_what_cannot_be_is_refused(write, message):
    with pytest.raises(TapeError) as error:
        write(tape())
    assert str(error.value) == message


def test_one_weight_may_be_read_twice():
    t = tape()
    t.contract("y", "B S V", X, TABLE)
    t.contract("z", "B S V", X, TABLE)
    assert len(t.ops) == 2
    assert tape().ops == []


def test_scopes_end():
    t = tape()
    with t.scope("a"), t.span("b"):
        t.pointwise("y", X)
    t.pointwise("y", X)
    assert [(op.output.name, op.spans) for op in t.ops] == [("a.b.y", ("a", "b")), ("y", ())]
    with t.scope("a"), t.span("b"), t.scope("c"):
        assert t.weight("weight", "F D", "key").path == "a.c.weight"
