"""A model of images or sound around a text model of a known type: refused by name, and its text part read on request."""

import json

from command import ask

import archcalc

TEXT = {
    "model_type": "qwen3", "vocab_size": 100, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}  # fmt: skip
WHOLE = {"model_type": "new_vl", "vision_config": {"depth": 2}, "text_config": TEXT, "tie_word_embeddings": True}


def test_an_unknown_whole_is_refused_and_its_text_part_offered(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(WHOLE))
    done = ask("params", str(path))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "is a model of more than text that is not known; got 'new_vl'" in done.err
    assert "SPEC@part=text reads its text_config alone, a qwen3" in done.err


def test_the_text_part_alone_is_a_spec(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(WHOLE))
    for given in (path, tmp_path):
        out = tmp_path / "text.yaml"
        assert ask("import", str(given), "--part", "text", "-o", str(out)).code == 0
        # tied, as the whole says: table; two layers of attention with norms of 4, gated MLPs and norms; the last norm
        layer = 16 * (16 + 8 + 8) + 16 * 16 + 2 * 4 + 3 * 16 * 32 + 2 * 16
        assert archcalc.params(archcalc.load(out)).stored == 100 * 16 + 2 * layer + 16


def test_the_text_part_is_read_wherever_a_spec_is_taken(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(WHOLE))
    layer = 16 * (16 + 8 + 8) + 16 * 16 + 2 * 4 + 3 * 16 * 32 + 2 * 16
    stored = 100 * 16 + 2 * layer + 16
    for given in (f"{path}@part=text", f"{tmp_path}@part=text"):
        done = ask("params", given, "-f", "json")
        assert (done.code, done.json["parameters"]["stored"]) == (0, stored)
    assert "the text model of 'new_vl' is counted by its own type" in ask("report", f"{path}@part=text").out
    done = ask("params", f"{path}@n_layers=1, part = text", "-f", "json")
    assert (done.code, done.json["parameters"]["stored"]) == (0, stored - layer)
    for command in (("memory",), ("flops",), ("explain",), ("check",), ("diff", "tiny"), ("import",)):
        done = ask(*command, f"{path}@part=text")
        assert done.code == 0, command
        assert all(line.endswith("(warning)") for line in done.err.splitlines()), command
    done = ask("params", "-@part=text", "-f", "json", stdin=path.read_bytes())
    assert done.json["parameters"]["stored"] == stored


def test_a_spec_has_no_text_part(tmp_path):
    for spec in ("gpt2", str(tmp_path / "x.yaml")):
        done = ask("params", f"{spec}@part=text")
        said = f"{spec}@part=text: part=text: is a spec, not a config.json that has a text model inside\n"
        assert (done.code, done.err) == (2, said)


def test_weights_of_an_unknown_whole_are_held_against_its_text_part(tmp_path):
    from sparse import FILE, weights_file

    (tmp_path / "config.json").write_text(json.dumps(WHOLE))
    layer = {
        "self_attn.q_proj": (16, 16), "self_attn.k_proj": (8, 16), "self_attn.v_proj": (8, 16), "self_attn.o_proj": (16, 16),
        "self_attn.q_norm": (4,), "self_attn.k_norm": (4,), "mlp.gate_proj": (32, 16), "mlp.up_proj": (32, 16),
        "mlp.down_proj": (16, 32), "input_layernorm": (16,), "post_attention_layernorm": (16,),
    }  # fmt: skip
    tensors = {"embed_tokens": (100, 16), "norm": (16,)}
    tensors |= {f"layers.{i}.{name}": shape for i in range(2) for name, shape in layer.items()}
    found = {f"model.language_model.{name}.weight": ("BF16", shape) for name, shape in tensors.items()}
    weights_file(tmp_path / FILE, {**found, "model.visual.merger.weight": ("BF16", (8, 8))})
    done = ask("check", f"{tmp_path}@part=text", "--weights", str(tmp_path))
    assert (done.code, done.err) == (0, ""), done.out


def test_what_has_no_text_part_is_one_line(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TEXT))
    done = ask("import", str(path), "--part", "text")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert (
        "has no part that is a text model: none of text_config, llm_config, language_config is a mapping" in done.err
    )
