"""`check SPEC --weights`: headers alone, held against a spec tensor by tensor."""

import json
import math
import shutil
import sys
from pathlib import Path

import pytest
from command import ask, calling, loaded
from examples import one_in
from ggufs import gguf_file
from sparse import FILE, shards, weights_file

sys.path.insert(0, str(Path(__file__).parents[1] / "weights"))
from samples import SAMPLES, built

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

GPT2 = {"vocab_size": 101, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 32, "n_inner": 100}


def rows(answer):
    """The comparisons that do not hold: (counted, stored, reason) by what is compared."""
    found = answer.json["checks"]
    return {c["what"]: (c["counted"], c["measured"], c["reason"]) for c in found if not c["equal"]}


def check(spec, weights, *arguments):
    return ask("check", str(spec), "--weights", str(weights), "-f", "json", *arguments)


@pytest.fixture
def put(tmp_path):
    """A folder with the config.json of a small GPT-2 and the header that transformers' model of it has."""
    import transformers

    def write(change=lambda _: None, *, count=1, **config):
        folder = tmp_path / "w"
        folder.mkdir()
        said = transformers.GPT2Config(**GPT2, **config)
        with torch.device("meta"):
            theirs = transformers.GPT2LMHeadModel(said)
        tensors = {name: ("F32", tuple(t.shape)) for name, t in theirs.named_parameters()}
        change(tensors)
        weights_file(folder / FILE, tensors) if count == 1 else shards(folder, tensors, count)
        (folder / "config.json").write_text(json.dumps(said.to_dict()))
        return folder

    return write


@pytest.mark.parametrize("name", one_in(6, SAMPLES))
def test_what_transformers_saves_is_what_the_spec_of_its_config_expects(name, tmp_path):
    theirs = built(name)
    theirs.save_pretrained(tmp_path)
    answer = check(tmp_path, tmp_path)
    assert (answer.code, answer.err, rows(answer)) == (0, "", {})
    (parameters,) = (c for c in answer.json["checks"] if c["what"] == "parameters")
    learned = [p for p in theirs.parameters() if p.requires_grad]  # others correct scores: buffers, as we count
    assert parameters["measured"] == sum(p.numel() for p in learned) - never_read(theirs.config)
    counted = ask("params", str(tmp_path / FILE), "-f", "json").json["parameters"]["stored"]
    assert counted == parameters["measured"] + never_read(theirs.config)


def told(answer):
    """What is wrong with the weights of a folder, by tensor."""
    return {one["path"]: one["message"] for one in answer.json["problems"] if one["rule"] == "AC103"}


def test_a_folder_is_checked_with_its_weights(put):
    folder = put()
    answer = ask("check", str(folder), "-f", "json")
    assert (answer.code, told(answer)) == (0, {})
    # 2 tables, 12 tensors in each of 2 blocks, 2 of the last norm
    assert {c["what"]: c["measured"] for c in answer.json["checks"]}["tensors"] == 28
    assert told(ask("check", str(folder.parent), "-f", "json")) == {}


def test_a_folder_s_weights_that_differ_are_told_tensor_by_tensor(put):
    def change(tensors):
        del tensors["transformer.h.1.ln_1.weight"]
        tensors["transformer.more"] = ("F32", (3,))
        tensors["transformer.wpe.weight"] = ("F32", (33, 48))
        tensors["transformer.ln_f.bias"] = ("I64", (48,))

    folder = put(change)
    expected = {
        "transformer.h.1.ln_1.weight": "is missing in the weights; the spec has it as 48 numbers",
        "transformer.more": "is in the weights as 3 numbers, and not in the spec",
        "transformer.wpe.weight": "is 33 x 48 in the weights, and 32 x 48 by the spec: different shape",
        "transformer.ln_f.bias": "is 48 numbers in the weights, and 48 numbers by the spec: wrong type: I64",
    }
    answer = ask("check", str(folder), "-f", "json")
    assert (answer.code, told(answer)) == (1, expected)
    above = ask("check", str(folder.parent), "-f", "json")
    assert (above.code, told(above)) == (1, expected)
    assert ask("check", str(folder), "--ignore", "AC103").code == 0
    alone = ask("check", str(folder / "config.json"), "-f", "json")
    assert (alone.code, told(alone)) == (0, {}), "a config.json that is named is meant alone"


@pytest.mark.parametrize("damage", ["short", "other"])
def test_weights_that_cannot_be_compared_do_not_pass(put, damage):
    folder = put(lambda tensors: damage == "other" and (tensors.clear(), tensors.update({"x": ("F32", (2, 2))})))
    if damage == "short":
        (folder / FILE).write_bytes(b"\xff" * 20)
    answer = ask("check", str(folder), "-f", "json")
    assert answer.code == 1
    assert told(answer)[""].startswith(f"the weights cannot be compared: {folder}")


def test_many_differences_are_told_as_many(put):
    folder = put(
        lambda tensors: tensors.update({f"more.{name}": ("F32", (3,)) for name in "abcdefghijklmnopqrstuvwxyz"})
    )
    # 20 of 26 a line each, the others as a number
    assert told(ask("check", str(folder), "-f", "json"))["6 more differences"] == "differs"


def test_a_spec_may_allow_what_its_weights_are(put):
    folder = put(lambda tensors: tensors.update(more=("F32", (3,))))
    spec = ask("import", str(folder / "config.json")).out
    assert "schema: 0" in spec
    for config in folder.glob("config.json"):
        config.unlink()
    (folder / "spec.yaml").write_text(spec)
    assert ask("check", str(folder)).code == 1
    (folder / "spec.yaml").write_text(spec + 'allow: [{rule: AC103, why: "a mask of the trainer"}]\n')
    answer = ask("check", str(folder), "-f", "json")
    assert answer.code == 0
    assert "AC102" not in {one["rule"] for one in answer.json["problems"]}


def test_weights_that_nothing_says_how_to_unpack_do_not_pass_a_strict_check(put):
    folder = put(lambda tensors: tensors.update({"transformer.h.0.mlp.c_fc.weight": ("I8", (3, 3))}))
    answer = ask("check", str(folder), "-f", "json")
    assert (answer.code, [*told(answer)]) == (0, [""])
    assert told(answer)[""].startswith("the weights cannot all be compared: 1 weight packed in an unknown way")
    assert ask("check", str(folder), "--strict").code == 1


def test_a_baseline_knows_how_weights_differ(put, tmp_path):
    """Another difference of the same tensor is another problem, and weights that cannot be read are never known."""
    folder, known = put(lambda tensors: tensors.update(more=("F32", (3,)))), str(tmp_path / "known.json")
    assert ask("check", str(folder), "--baseline", known, "--write-baseline").code == 0
    assert ask("check", str(folder), "--baseline", known, "--strict").code == 0
    shutil.rmtree(folder)
    other = put(lambda tensors: tensors.update(more=("F32", (999,))))
    assert ask("check", str(other), "--baseline", known).code == 1
    (other / FILE).write_bytes(b"garbage")
    assert ask("check", str(other), "--baseline", known, "--write-baseline").code == 1
    assert ask("check", str(other), "--baseline", known).code == 1


def test_a_question_about_a_folder_is_not_about_its_weights(put):
    answer = ask("check", f"{put()}@d_ff=64", "-f", "json")
    assert (answer.code, told(answer)) == (0, {})


def test_a_folder_is_checked_without_torch(put):
    folder = put()
    held = loaded(calling("check", str(folder)))
    assert not {"torch", "numpy", "transformers"} & {*held}


def never_read(config):
    """LongCat-Flash: rows of gates and up projections that transformers makes for experts without weights too."""
    idle = getattr(config, "zero_expert_num", None) or 0
    return idle and config.num_layers * idle * 2 * config.expert_ffn_hidden_size * config.hidden_size


@pytest.mark.parametrize("count", [1, 3])
def test_a_file_shards_and_a_folder_hold_against_a_catalogue_s_spec(put, count):
    folder = put(count=count)
    spec = "gpt2@vocab_size=101,d_model=48,n_layers=2,context_length=32,n_heads=4,d_head=12,d_ff=100"
    paths = [folder, folder / (FILE if count == 1 else f"{FILE}.index.json")]
    for path in paths:
        answer = check(spec, path)
        assert (answer.code, answer.err, rows(answer)) == (0, "", {})
        assert answer.json["passed"] is True
    if count > 1:
        assert "in 3 files; F32 in 28 tensors" in answer.json["proven_with"][0]


H = "transformer.h.{i}."
DIFFERENT = {
    "missing": (lambda t: t.pop("transformer.h.1.mlp.c_fc.bias"), {"transformer.h.1.mlp.c_fc.bias": ([100], None, "MISSING")}),
    "missing in each layer": (
        lambda t: [t.pop(f"transformer.h.{i}.ln_1.weight") for i in (0, 1)],
        {f"{H}ln_1.weight (2 layers)": ([48], None, "MISSING")},
    ),
    "unexpected": (lambda t: t.update({"transformer.extra": ("F32", (2, 3))}), {"transformer.extra": (None, [2, 3], "UNEXPECTED")}),
    "a third layer": (
        lambda t: t.update({"transformer.h.2.ln_1.weight": ("F32", (48,))}),
        {"transformer.h.2.ln_1.weight": (None, [48], "UNEXPECTED")},
    ),
    "another shape": (
        lambda t: t.update({"transformer.wpe.weight": ("F32", (33, 48))}),
        {"transformer.wpe.weight": ([32, 48], [33, 48], "DIFFERENT SHAPE")},
    ),
    "transposed": (
        lambda t: t.update({"transformer.h.0.mlp.c_fc.weight": ("F32", (100, 48))}),
        {"transformer.h.0.mlp.c_fc.weight": ([48, 100], [100, 48], "TRANSPOSED")},
    ),
    "padded": (
        lambda t: t.update({"transformer.wte.weight": ("F32", (128, 48))}),
        {"transformer.wte.weight": ([101, 48], [128, 48], "PADDED by 27 rows; vocab_size=128 counts them")},
    ),
    "a wrong type": (
        lambda t: t.update({"transformer.ln_f.weight": ("I64", (48,))}),
        {"transformer.ln_f.weight": ([48], [48], "WRONG TYPE: I64")},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "told"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_is_told_tensor_by_tensor(put, change, told):
    folder = put(change)
    answer = check(folder, folder)
    found = {what: row for what, row in rows(answer).items() if what not in ("tensors", "parameters")}
    assert (answer.code, answer.err, found) == (1, "", told)


def test_masks_and_names_without_their_prefix_are_no_difference(put):
    def published(tensors):
        """As GPT-2's own file has them."""
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        tensors["h.0.attn.bias"] = ("F32", (1, 1, 32, 32))

    folder = put(published)
    answer = check(folder, folder)
    assert (answer.code, rows(answer)) == (0, {})


def test_a_tied_head_may_be_stored_and_stands_for_a_table_that_is_not(put):
    folder = put(lambda t: t.update({"lm_head.weight": ("F32", (101, 48))}))
    answer = check(folder, folder)
    assert (answer.code, rows(answer)) == (0, {})
    assert answer.json["warnings"] == [
        "lm_head.weight is stored too (19,392 bytes), and the spec ties it to the token table; whether they are equal, only their numbers tell"
    ]
    untied = check(f"{folder}@tied=false", folder / FILE)
    assert (untied.code, rows(untied), untied.json["warnings"]) == (0, {}, [])


def test_a_head_in_place_of_the_table_is_the_table(put):
    def change(tensors):
        tensors["lm_head.weight"] = tensors.pop("transformer.wte.weight")

    folder = put(change)
    assert check(folder, folder).code == 0


def test_an_untied_spec_misses_its_head(put):
    folder = put()
    answer = check(f"{folder}@tied=false", folder)
    assert answer.code == 1
    assert rows(answer)["lm_head.weight"] == (
        [101, 48],
        None,
        "MISSING; unembedding.tied=true describes a file without it",
    )


def test_config_json_beside_is_compared_too(put):
    folder = put()
    answer = check(f"{folder}@n_heads=2,d_head=24,n_kv_heads=2", folder)
    assert (answer.code, list(rows(answer))) == (1, ["config.json n_head"])


def test_another_type_than_config_json_says_is_a_warning(put):
    folder = put(dtype="bfloat16")
    answer = check(folder, folder)
    assert answer.code == 0
    layer = 4 * 48 + (48 * 144 + 144) + (48 * 48 + 48) + (48 * 100 + 100) + (100 * 48 + 48)
    parameters = 101 * 48 + 32 * 48 + 2 * layer + 2 * 48
    assert answer.json["warnings"] == [f"config.json says bfloat16; {parameters:,} parameters are F32"]


def test_archcalc_s_own_names_are_known(tmp_path):
    import archcalc
    from archcalc_reference import Transformer
    from archcalc_reference.weights.folder import save_weights

    spec = "tiny@n_kv_heads=2"
    save_weights(Transformer(archcalc.load(spec)), str(tmp_path / "w"))
    answer = check(spec, tmp_path / "w")
    assert (answer.code, rows(answer)) == (0, {})


LLAMA = {
    "model_type": "llama", "vocab_size": 512, "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 512, "max_position_embeddings": 64, "tie_word_embeddings": False,
    "rms_norm_eps": 1e-5, "rope_theta": 1e4, "hidden_act": "silu",
}  # fmt: skip
LINEAR = {
    "self_attn.q_proj": (256, 256), "self_attn.k_proj": (128, 256), "self_attn.v_proj": (128, 256), "self_attn.o_proj": (256, 256),
    "mlp.gate_proj": (512, 256), "mlp.up_proj": (512, 256), "mlp.down_proj": (256, 512),
}  # fmt: skip
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}  # fmt: skip


def llama(linear):
    """The tensors of that Llama, whose matrices are as `linear` makes them of their name and (out, in)."""
    tensors = {
        "model.embed_tokens.weight": ("BF16", (512, 256)),
        "lm_head.weight": ("BF16", (512, 256)),
        "model.norm.weight": ("BF16", (256,)),
    }
    for i in (0, 1):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{i}.{norm}.weight"] = ("BF16", (256,))
        for name, shape in LINEAR.items():
            tensors |= {f"model.layers.{i}.{name}.{leaf}": one for leaf, one in linear(*shape).items()}
    return tensors


PACKED = {
    "gptq": ({"bits": 4, "group_size": 128}, lambda n, k: {"qweight": ("I32", (k // 8, n)), "qzeros": ("I32", (k // 128, n // 8)), "scales": ("F16", (k // 128, n)), "g_idx": ("I32", (k,))}),
    "awq": ({"bits": 4, "group_size": 128}, lambda n, k: {"qweight": ("I32", (k, n // 8)), "qzeros": ("I32", (k // 128, n // 8)), "scales": ("F16", (k // 128, n))}),
    "fp8": ({"weight_block_size": [128, 128]}, lambda n, k: {"weight": ("F8_E4M3", (n, k)), "weight_scale_inv": ("F32", (-(-n // 128), -(-k // 128)))}),
    "modelopt": ({"quant_algo": "NVFP4"}, lambda n, k: {"weight": ("U8", (n, k // 2)), "weight_scale": ("F8_E4M3", (n, k // 16)), "weight_scale_2": ("F32", ()), "input_scale": ("F32", ())}),
    "compressed-tensors": ({"config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32}}}}, lambda n, k: {"weight_packed": ("I32", (n, k // 8)), "weight_scale": ("BF16", (n, k // 32)), "weight_shape": ("I64", (2,))}),
    "bitsandbytes": ({"load_in_4bit": True}, lambda n, k: {"weight": ("U8", (n * k // 2, 1)), "weight.absmax": ("F32", (n * k // 64,)), "weight.quant_map": ("F32", (16,)), "weight.quant_state.bitsandbytes__nf4": ("U8", (90,))}),
}  # fmt: skip


@pytest.mark.parametrize(("method", "said", "linear"), [(m, *p) for m, p in PACKED.items()], ids=PACKED)
def test_packed_weights_have_the_shapes_of_the_spec(tmp_path, method, said, linear):
    config = {**LLAMA, "quantization_config": {"quant_method": method, **said}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights_file(tmp_path / FILE, llama(linear))
    answer = check(tmp_path, tmp_path)
    assert (answer.code, answer.err, rows(answer)) == (0, "", {})
    by_hand = 2 * 512 * 256 + 256 + 2 * (2 * 256 + sum(n * k for n, k in LINEAR.values()))
    assert ask("params", str(tmp_path / FILE), "-f", "json").json["parameters"]["stored"] == by_hand
    other = check(f"{tmp_path}@d_ff=384", tmp_path / FILE)
    assert other.code == 1
    assert "model.layers.{i}.mlp.up_proj.weight (2 layers)" in rows(other)


def test_what_is_packed_in_an_unknown_way_is_not_compared(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    weights_file(tmp_path / FILE, llama(lambda n, k: {"weight": ("U8", (n, k // 2))}))
    answer = check(tmp_path, tmp_path)
    assert (answer.code, rows(answer)) == (0, {})
    assert answer.json["not_compared"] == [
        "14 weights packed in an unknown way: model.layers.0.self_attn.q_proj.weight, U8, packed in an unknown way"
    ]


def gguf_llama(path, change=lambda _: None, kind="Q8_0", keys=None):
    """The same Llama under the names that llama.cpp's converter gives."""
    tensors = {
        "token_embd.weight": ((512, 256), kind),
        "output.weight": ((512, 256), "Q6_K"),
        "output_norm.weight": ((256,), "F32"),
        "rope_freqs.weight": ((32,), "F32"),
    }
    for i in (0, 1):
        tensors |= {f"blk.{i}.attn_norm.weight": ((256,), "F32"), f"blk.{i}.ffn_norm.weight": ((256,), "F32")}
        tensors |= {f"blk.{i}.{NAMES[name]}.weight": (shape, kind) for name, shape in LINEAR.items()}
    change(tensors)
    return gguf_file(path, tensors, **(keys or {}))


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_K", "MXFP4", "NVFP4"])
def test_a_gguf_file_holds_against_the_spec(tmp_path, kind):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    answer = check(tmp_path / "config.json", gguf_llama(tmp_path / "m.gguf", kind=kind))
    assert (answer.code, answer.err, rows(answer)) == (0, "", {})
    assert f"{kind} in 15 tensors, F32 in 5 tensors, Q6_K in 1 tensor" in answer.json["proven_with"][0]


def test_modules_of_multi_token_prediction_in_a_gguf_file_are_apart(tmp_path):
    """llama.cpp's converter numbers them as blocks behind the last: norms, a projection, and what a layer has."""
    spec = tmp_path / "spec.yaml"
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert ask("import", str(tmp_path / "config.json"), "-o", str(spec)).code == 0
    around = {
        "nextn.eh_proj": (256, 512),
        **dict.fromkeys(("nextn.enorm", "nextn.hnorm", "nextn.shared_head_norm"), (256,)),
    }
    layer = {
        **dict.fromkeys(("attn_norm", "ffn_norm"), (256,)),
        **{NAMES[name]: shape for name, shape in LINEAR.items()},
    }
    further = {f"blk.2.{name}.weight": (shape, "F16") for name, shape in {**around, **layer}.items()}
    copies = {"blk.2.nextn.shared_head_head.weight": ((512, 256), "F16")}
    path = gguf_llama(tmp_path / "m.gguf", lambda tensors: tensors.update({**further, **copies}))
    answer = check(spec, path)
    size = sum(2 * math.prod(shape) for shape, _ in {**further, **copies}.values())
    assert (answer.code, rows(answer)) == (0, {})
    assert answer.json["not_compared"] == [
        f"the file's modules of multi-token prediction (14 tensors, {size:,} bytes): not part of the text spec"
    ]
    spec.write_text(spec.read_text() + "mtp: {n_modules: 1}\n")
    answer = check(spec, path)
    assert (answer.code, rows(answer), answer.json["not_compared"]) == (0, {}, [])
    (found,) = [one for one in answer.json["checks"] if one["what"] == "parameters of multi-token prediction"]
    assert found["measured"] == sum(math.prod(shape) for shape, _ in further.values())


def test_what_a_gguf_file_has_otherwise_is_told_by_its_names(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))

    def change(tensors):
        del tensors["output.weight"]
        tensors["blk.1.ffn_up.weight"] = ((544, 256), "Q8_0")
        tensors["blk.0.attn_q.bias"] = ((256,), "F32")

    answer = check(tmp_path / "config.json", gguf_llama(tmp_path / "m.gguf", change))
    told = {what: row for what, row in rows(answer).items() if what not in ("tensors", "parameters")}
    assert told == {
        "blk.1.ffn_up.weight": ([512, 256], [544, 256], "DIFFERENT SHAPE"),
        "blk.0.attn_q.bias": (None, [256], "UNEXPECTED"),
        "output.weight": ([512, 256], None, "MISSING; unembedding.tied=true describes a file without it"),
    }


def test_sizes_that_no_shape_shows_are_told_from_the_keys(tmp_path):
    """Four heads of 64 and eight of 32 have matrices of the same shapes."""
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    keys = {
        "context_length": 64,
        "embedding_length": 256,
        "block_count": 2,
        "feed_forward_length": 512,
        "attention__head_count": 4,
        "attention__head_count_kv": 2,
    }
    for changed, told in (
        ({}, {}),
        ({"attention__head_count_kv": [2, 2]}, {}),
        ({"attention__head_count": 8}, {"llama.attention.head_count": (4, 8, "DIFFERS: n_heads")}),
        ({"context_length": 128}, {"llama.context_length": (64, 128, "DIFFERS: context_length")}),
    ):
        said = {f"llama__{key}": value for key, value in {**keys, **changed}.items()}
        answer = check(tmp_path / "config.json", gguf_llama(tmp_path / "m.gguf", keys=said))
        assert (answer.code, answer.err, rows(answer)) == (int(bool(told)), "", told)


def test_gpt2_in_gguf_is_upright(tmp_path):
    """llama.cpp's converter turns GPT-2's matrices, which transformers stores as (in, out)."""
    tensors = {"token_embd.weight": ((101, 48), "F16"), "position_embd.weight": ((32, 48), "F32")}
    tensors |= {f"output_norm.{leaf}": ((48,), "F32") for leaf in ("weight", "bias")}
    for i in (0, 1):
        for name, shape in (
            ("attn_qkv", (144, 48)),
            ("attn_output", (48, 48)),
            ("ffn_up", (100, 48)),
            ("ffn_down", (48, 100)),
        ):
            tensors |= {f"blk.{i}.{name}.weight": (shape, "F16"), f"blk.{i}.{name}.bias": (shape[:1], "F32")}
        tensors |= {
            f"blk.{i}.{norm}.{leaf}": ((48,), "F32")
            for norm in ("attn_norm", "ffn_norm")
            for leaf in ("weight", "bias")
        }
    path = gguf_file(tmp_path / "m.gguf", tensors, "gpt2")
    answer = check("gpt2@vocab_size=101,d_model=48,n_layers=2,context_length=32,n_heads=4,d_head=12,d_ff=100", path)
    assert (answer.code, answer.err, rows(answer)) == (0, "", {})


def test_what_cannot_be_compared_is_one_line(tmp_path, put):
    folder = put()
    weights_file(tmp_path / "x.safetensors", {"who.knows": ("F32", (2,))})
    odd = gguf_file(tmp_path / "odd.gguf", {"a": ((2,), "F32")}, "unheard-of")
    for arguments, code, said in (
        (("tiny", "gpt2", "--weights", str(folder)), 2, "--weights: needs one SPEC to compare with; got 2\n"),
        (("--weights", str(folder)), 2, "--weights: needs one SPEC to compare with; got 0\n"),
        (("tiny", "--weights", str(tmp_path / "no.safetensors")), 3, f"{tmp_path}/no.safetensors: no such file\n"),
        (("tiny", "--weights", str(tmp_path / "no")), 3, f"{tmp_path}/no: no such directory\n"),
        (
            ("tiny", "--weights", str(tmp_path / "x.safetensors")),
            2,
            f"{tmp_path}/x.safetensors: holds weights of another architecture: its tensors are not named as those of a known family; got 'who.knows'\n",
        ),
        (
            ("tiny", "--weights", str(odd)),
            2,
            f"{odd}: general.architecture: is of an unknown architecture; got 'unheard-of'\n",
        ),
    ):
        answer = ask("check", *arguments)
        assert (answer.code, answer.out, answer.err) == (code, "", said)


def test_differences_beyond_twenty_are_counted(put):
    folder = put(lambda t: t.update({f"transformer.x{i}": ("F32", (1,)) for i in range(30)}))
    told = rows(check(folder, folder))
    assert told["10 more differences"] == (None, None, "DIFFERS")
    assert len(told) == 2 + 20 + 1


def test_neither_torch_nor_numpy_is_loaded(put):
    folder = put()
    assert loaded(calling("check", str(folder), "--weights", str(folder))) == ["archcalc_reference"]
    assert loaded(calling("params", str(folder / FILE))) == []


def test_modules_that_predict_further_tokens_are_apart_from_the_model(tmp_path):
    """DeepSeek-V3 stores one behind its last layer; Kimi K2 has the same names under a model_type of its own."""
    from safetensors.torch import load_file, save_file

    from archcalc.spec.catalogue import find
    from archcalc_reference.weights.configuration import read_config
    from archcalc_reference.weights.folder import load_weights

    theirs = built("deepseek_v3")
    theirs.save_pretrained(tmp_path)
    layers = theirs.config.num_hidden_layers
    further = {f"model.layers.{layers}.{name}.weight": torch.zeros(4, 5) for name in ("eh_proj", "self_attn.q_a_proj")}
    save_file({**load_file(tmp_path / FILE), **further}, tmp_path / FILE, {"format": "pt"})
    config = {**read_config(str(tmp_path)), "model_type": "kimi_k2", "num_nextn_predict_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    answer = check(tmp_path, tmp_path)
    told = rows(answer)  # two tensors are no whole module
    assert "parameters of multi-token prediction" in told
    assert told[f"model.layers.{layers}.enorm.weight"][2] == "MISSING"
    assert told[f"model.layers.{layers}.eh_proj.weight"][2] == "DIFFERENT SHAPE"
    assert answer.json["not_compared"] == []
    assert load_weights(find(str(tmp_path / "config.json")).model, str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_nextn_predict_layers": 0, "num_mtp_layers": 0}))
    assert set(rows(check(tmp_path, tmp_path))) >= set(further)


def test_a_module_of_multi_token_prediction_has_the_parameters_that_the_spec_counts(tmp_path):
    """DeepSeek's names: a layer behind the last with norms and a projection, and copies of the table and the head."""
    from safetensors.torch import load_file, save_file

    theirs = built("deepseek_v3")
    theirs.save_pretrained(tmp_path)
    n, d = theirs.config.num_hidden_layers, theirs.config.hidden_size
    there = load_file(tmp_path / FILE)
    last = {name: there[name] for name in there if name.startswith(f"model.layers.{n - 1}.")}
    further = {name.replace(f"layers.{n - 1}.", f"layers.{n}."): tensor.clone() for name, tensor in last.items()}
    around = {"enorm": (d,), "hnorm": (d,), "eh_proj": (d, 2 * d), "shared_head.norm": (d,)}
    copies = {"embed_tokens": (theirs.config.vocab_size, d), "shared_head.head": (theirs.config.vocab_size, d)}
    further |= {f"model.layers.{n}.{name}.weight": torch.zeros(shape) for name, shape in {**around, **copies}.items()}
    save_file({**there, **further}, tmp_path / FILE, {"format": "pt"})
    answer = check(tmp_path, tmp_path)
    assert answer.code == 0
    (found,) = [one for one in answer.json["checks"] if one["what"] == "parameters of multi-token prediction"]
    expected = sum(tensor.numel() for name, tensor in last.items() if not name.endswith("correction_bias"))
    assert (found["counted"], found["measured"]) == (expected + 2 * d * d + 3 * d,) * 2
    bias = f"model.layers.{n}.mlp.gate.e_score_correction_bias"
    del further[f"model.layers.{n}.enorm.weight"], further[bias]
    further[f"model.layers.{n}.self_attn.z_proj.weight"] = torch.zeros(d)
    save_file({**there, **further}, tmp_path / FILE, {"format": "pt"})
    answer = check(tmp_path, tmp_path)
    assert answer.code == 1
    assert {what: reason for what, (_, _, reason) in rows(answer).items() if what.startswith("model.")} == {
        f"model.layers.{n}.enorm.weight": "MISSING",
        bias: "MISSING",
        f"model.layers.{n}.self_attn.z_proj.weight": "UNEXPECTED",
    }


def test_a_module_under_a_name_of_its_own_is_held_by_its_tensors(tmp_path):
    """Qwen3-Next's: norms and a projection beside one layer with attention, whose names are those of the model's."""
    from safetensors.torch import load_file, save_file

    theirs = built("qwen3_next")
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "mtp_num_hidden_layers": 1}))
    d, full = theirs.config.hidden_size, theirs.config.layer_types.index("full_attention")
    there = load_file(tmp_path / FILE)
    own = f"model.layers.{full}."
    further = {name.replace(own, "mtp.layers.0."): there[name].clone() for name in there if name.startswith(own)}
    around = {"fc": (d, 2 * d), "norm": (d,), "pre_fc_norm_embedding": (d,), "pre_fc_norm_hidden": (d,)}
    further |= {f"mtp.{name}.weight": torch.zeros(shape) for name, shape in around.items()}
    save_file({**there, **further}, tmp_path / FILE, {"format": "pt"})
    answer = check(tmp_path, tmp_path)
    assert (answer.code, rows(answer), answer.json["not_compared"]) == (0, {}, [])
    further["mtp.fc.weight"] = torch.zeros(2 * d, d)
    del further["mtp.layers.0.self_attn.q_norm.weight"]
    save_file({**there, **further}, tmp_path / FILE, {"format": "pt"})
    told = {what: row for what, row in rows(check(tmp_path, tmp_path)).items() if what.startswith("mtp.")}
    assert {what: reason for what, (_, _, reason) in told.items()} == {
        "mtp.fc.weight": "TRANSPOSED",
        "mtp.layers.0.self_attn.q_norm.weight": "MISSING",
    }


def saved(name, folder, change=lambda _: None, **config):
    """A folder with what transformers saves of a small model, after a change of its tensors."""
    from safetensors.torch import load_file, save_file

    theirs = built(name)
    if config:
        import transformers

        kind, said = SAMPLES[name]
        whole = transformers.AutoConfig.for_model(kind, **{**said, **config})
        theirs = transformers.AutoModelForCausalLM.from_config(whole)
    theirs.save_pretrained(folder)
    tensors = load_file(folder / FILE)
    change(tensors)
    save_file(tensors, folder / FILE, {"format": "pt"})


CORRECTION = "model.layers.{i}.mlp.gate.e_score_correction_bias"


@pytest.mark.parametrize(
    ("name", "buffer"), [("glm4_moe", CORRECTION), ("gemma4-e2b", "model.layers.{i}.layer_scalar")]
)
def test_a_buffer_that_is_missing_or_of_another_shape_is_named(tmp_path, name, buffer):
    has = {}
    saved(name, tmp_path, has.update)
    assert check(tmp_path, tmp_path).code == 0
    first, *_, last = sorted(one for one in has if one.endswith(buffer.rpartition("}")[2]))
    size = has[first].numel()

    def change(tensors):
        del tensors[first]
        tensors[last] = torch.zeros(size + 1)

    saved(name, tmp_path, change)
    answer = check(tmp_path, tmp_path)
    assert (answer.code, answer.err) == (1, "")
    assert rows(answer) == {first: ([size], None, "MISSING"), last: ([size], [size + 1], "DIFFERENT SHAPE")}


def test_tensors_of_what_sees_and_hears_are_told_apart(tmp_path):
    """A text model's config beside the files of the whole: names as transformers' classes have them."""
    theirs = built("qwen3")
    theirs.save_pretrained(tmp_path)
    tensors = {
        f"model.language_model.{n.removeprefix('model.')}": ("F32", tuple(p.shape))
        for n, p in theirs.named_parameters()
        if n != "lm_head.weight"
    }
    tensors |= {n: ("F32", tuple(p.shape)) for n, p in theirs.named_parameters() if n == "lm_head.weight"}
    tensors |= {
        "model.visual.blocks.0.attn.qkv.weight": ("BF16", (6, 2)),
        "model.visual.patch_embed.weight": ("BF16", (2, 2)),
    }
    tensors |= {
        "audio_tower.conv.weight": ("F32", (3,)),
        "multi_modal_projector.linear.weight": ("F32", (5,)),
        "mtp.fc.weight": ("F32", (7,)),
    }
    weights_file(tmp_path / FILE, tensors)
    answer = check(tmp_path, tmp_path)
    assert (answer.code, rows(answer)) == (0, {})
    assert answer.json["not_compared"] == [
        "the file's vision tower (2 tensors, 32 bytes): not part of the text spec",
        "the file's audio tower (1 tensor, 12 bytes): not part of the text spec",
        "the file's connection of what sees or hears (1 tensor, 20 bytes): not part of the text spec",
        "the file's modules of multi-token prediction (1 tensor, 28 bytes): not part of the text spec",
    ]


def test_a_convolution_that_was_split_evenly_is_told_by_name(tmp_path):
    """transformers joins q, k and v, and splits the whole into thirds when it saves: of unequal widths it loads none."""
    saved("olmo_hybrid", tmp_path, linear_key_head_dim=8, linear_value_head_dim=32)
    answer = check(tmp_path, tmp_path)
    told = {what: row for what, row in rows(answer).items() if "conv1d" in what}
    assert answer.code == 1
    assert {reason for _, _, reason in told.values()} == {
        "SPLIT INTO EQUAL PARTS, as transformers saves it; parts of these widths do not load"
    }


def test_what_published_files_have_too_many_and_lack_is_a_note(tmp_path):
    """A.X-K1's: a norm in dense layers, which have none, and no corrections (`_keys_to_ignore_on_load_*`)."""
    from archcalc.spec.catalogue import find
    from archcalc_reference.weights.folder import load_weights

    def published(tensors):
        for name in [name for name in tensors if name.endswith("e_score_correction_bias")]:
            del tensors[name]
        dense.extend(name for name in tensors if name.endswith("layers.0.post_attention_layernorm.weight"))
        tensors["model.layers.0.post_mlp_layernorm.weight"] = torch.zeros(tensors[dense[0]].shape)

    dense = []
    saved("axk1", tmp_path, published)
    answer = check(tmp_path, tmp_path)
    assert (answer.code, answer.err, rows(answer)) == (0, "", {})
    first, second = answer.json["warnings"]
    assert first == "1 tensor that transformers' model does not read: model.layers.0.post_mlp_layernorm.weight"
    assert "mlp.gate.e_score_correction_bias is not stored, in" in second
    reference = load_weights(find(str(tmp_path / "config.json")).model, str(tmp_path))
    assert {float(b.abs().max()) for n, b in reference.named_buffers() if n.endswith("correction")} == {0.0}
