"""A small spec that is good, as text, for the tests to damage."""

GOOD = """\
schema: 0
name: good
source: "this test"
vocab_size: 10
context_length: 7
d_model: 8
embedding: {positions: learned}
layers:
  - repeat: 2
    norm: {kind: layernorm, bias: true}
    attention: {kind: multi_head, n_heads: 4, n_kv_heads: 2, d_head: 2, bias: true}
    mlp: {kind: plain, d_ff: 11, activation: gelu_tanh, bias: true}
final_norm: {kind: layernorm, bias: true}
unembedding: {tied: true, bias: false}
"""
