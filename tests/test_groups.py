"""What the catalogue does not have yet and the next models need: unlike layers, shared heads, heads of any width."""

from command import ask

import archcalc

TWO_GROUPS = """
schema: 0
name: two-groups
source: "this test"
vocab_size: 10
context_length: 7
d_model: 6
embedding: {positions: learned}
layers:
  - repeat: 2
    norm: {kind: layernorm, bias: false}
    attention: {kind: multi_head, n_heads: 4, n_kv_heads: 2, d_head: 5, bias: false}
    mlp: {kind: plain, d_ff: 11, activation: gelu_tanh, bias: true}
  - repeat: 3
    norm: {kind: layernorm, bias: true}
    attention: {kind: multi_head, n_heads: 1, n_kv_heads: 1, d_head: 3, bias: true}
    mlp: {kind: plain, d_ff: 13, activation: gelu, bias: false}
final_norm: {kind: layernorm, bias: true}
unembedding: {tied: false, bias: true}
"""


def two_groups(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text(TWO_GROUPS)
    return path


def test_two_unlike_groups_with_shared_heads_of_odd_width_count_by_hand(tmp_path):
    counts = archcalc.params(archcalc.load(two_groups(tmp_path)))
    d, v = 6, 10
    first = 2 * d + (4 * 5 * d + 2 * 2 * 5 * d + d * 4 * 5) + (2 * d * 11 + 11 + d)
    second = 2 * 2 * d + (4 * 3 * d + 3 * 3 + d) + 2 * d * 13
    assert counts.stored == v * d + 7 * d + 2 * first + 3 * second + 2 * d + v * d + v
    tally = {c.category: c for c in counts.tally.categories}
    assert [(s.rows, s.columns, s.matrices) for s in tally["key"].shapes] == [(5, 6, 2 * 2), (3, 6, 3)]
    assert [(s.rows, s.columns, s.matrices) for s in tally["query"].shapes] == [(5, 6, 2 * 4), (3, 6, 3)]
    assert [(s.rows, s.columns, s.matrices) for s in tally["output"].shapes] == [(6, 20, 2), (6, 3, 3)]
    assert tally["up_projection"].parameters == 2 * 11 * 6 + 3 * 13 * 6
    assert counts.tally.matrices == 2 + 2 * (4 + 2 + 2 + 1 + 2) + 3 * (1 + 1 + 1 + 1 + 2)


def test_two_groups_show_a_row_for_each_shape(tmp_path):
    path = str(two_groups(tmp_path))
    table = ask("params", path)
    assert table.code == 0
    rows = [line for line in table.out.splitlines() if " x " in line]
    assert len(rows) == 2 + 6 * 2
    key = next(c for c in ask("params", path, "-f", "json").json["tally"]["categories"] if c["category"] == "key")
    assert (key["rows"], key["columns"]) == (None, None)
    assert [s["rows"] for s in key["shapes"]] == [5, 3]
    tensors = ask("params", path, "--by", "tensor", "-f", "json").json["tensors"]
    up = [t for t in tensors if t["name"] == "layers.{i}.mlp.up.weight"]
    assert [(t["first_layer"], t["layers"], t["shape"]) for t in up] == [(0, 2, [11, 6]), (2, 3, [13, 6])]
    assert "2-4" in ask("params", path, "--by", "layer").out


def test_alike_groups_share_a_row(tmp_path):
    path = tmp_path / "alike.yaml"
    layer = TWO_GROUPS.split("layers:\n")[1].split("  - repeat: 3", maxsplit=1)[0]
    path.write_text(
        TWO_GROUPS.split("layers:\n", maxsplit=1)[0]
        + "layers:\n"
        + layer
        + layer
        + TWO_GROUPS[TWO_GROUPS.index("final_norm") :]
    )
    key = next(c for c in archcalc.params(archcalc.load(path)).tally.categories if c.category == "key")
    assert [(s.rows, s.columns, s.matrices, s.parameters) for s in key.shapes] == [
        (5, 6, 2 * 2 * 2, 2 * 2 * 2 * 5 * 6)
    ]


def test_the_report_has_a_line_for_each_group(tmp_path):
    out = ask("report", str(two_groups(tmp_path))).out
    assert "2 layers of 4 heads of 5 over 2 key/value heads, d_ff 11 (gelu_tanh) with biases" in out
    assert "3 layers of 1 heads of 3 with biases, d_ff 13 (gelu)" in out
    assert "unembedding not tied" in out
    assert "Printed" not in out
