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
    assert "`archcalc import CONFIG --part text` reads its text_config alone, a qwen3" in done.err


def test_the_text_part_alone_is_a_spec(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(WHOLE))
    for given in (path, tmp_path):
        out = tmp_path / "text.yaml"
        assert ask("import", str(given), "--part", "text", "-o", str(out)).code == 0
        # tied, as the whole says: table; two layers of attention with norms of 4, gated MLPs and norms; the last norm
        layer = 16 * (16 + 8 + 8) + 16 * 16 + 2 * 4 + 3 * 16 * 32 + 2 * 16
        assert archcalc.params(archcalc.load(out)).stored == 100 * 16 + 2 * layer + 16


def test_what_has_no_text_part_is_one_line(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TEXT))
    done = ask("import", str(path), "--part", "text")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert (
        "has no part that is a text model: none of text_config, llm_config, language_config is a mapping" in done.err
    )
