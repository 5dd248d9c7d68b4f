"""The commands import and export, as they are typed."""

import json

from command import ask

import archcalc

LLAMA = {
    "model_type": "llama",
    "vocab_size": 96,
    "max_position_embeddings": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 88,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "use_cache": True,
}
# Two tables, and in each layer q and o (32 x 32), k and v (16 x 32), three matrices of the MLP, two norms; a last norm.
PARAMETERS = 2 * 96 * 32 + 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 88 * 32 + 2 * 32) + 32


def config(folder):
    path = folder / "config.json"
    path.write_text(json.dumps(LLAMA))
    return path


def test_a_config_is_taken_where_a_spec_is(tmp_path):
    path = config(tmp_path)
    for spec in (str(path), str(tmp_path)):
        assert ask("params", spec, "-f", "json").json["parameters"]["stored"] == PARAMETERS


def test_import_writes_a_spec_with_the_keys_that_its_fields_came_from(tmp_path):
    path, spec = config(tmp_path), tmp_path / "spec.yaml"
    assert ask("import", str(path), "-o", str(spec)).code == 0
    text = spec.read_text()
    assert archcalc.params(archcalc.load(spec)).stored == PARAMETERS
    assert "#   d_model" in text
    assert "hidden_size" in text
    assert "use_cache" in text
    assert ask("import", str(path)).out == text


def test_export_writes_a_config_that_is_read_as_the_same_model(tmp_path):
    path = tmp_path / "out.json"
    assert ask("export", str(config(tmp_path)), "--output", str(path)).code == 0
    again = archcalc.load(path)
    assert archcalc.params(again).stored == PARAMETERS
    assert again.layers == archcalc.load(tmp_path / "config.json").layers


def test_a_spec_is_no_config():
    answer = ask("import", "tiny")
    assert (answer.code, answer.err) == (2, "tiny: is a spec already, not a config.json\n")
