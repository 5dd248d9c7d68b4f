"""What a folder says beside its tensors, and how its tensors are named: taken as transformers takes it, or refused.

transformers loads each folder too: what we load has its logits, and what it would fill with random numbers we refuse.
"""

import json
import math

import pytest
from command import ask
from outside import gpt2_config

import archcalc
from archcalc import Invalid

torch = pytest.importorskip("torch", reason="the reference is PyTorch")
transformers = pytest.importorskip("transformers", reason="the outside voice")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="the extra `run`")

from archcalc_reference import Transformer  # noqa: E402
from archcalc_reference.model.sampling import Sampling  # noqa: E402
from archcalc_reference.text.drawing import ends_of, not_taken  # noqa: E402
from archcalc_reference.weights.folder import load_weights, save_weights  # noqa: E402

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
SIZES = {"n_layers": 2, "d_model": 24, "d_head": 6, "d_ff": 96, "vocab_size": 41, "context_length": 9}
WTE, HEAD = "transformer.wte.weight", "lm_head.weight"
ABSENT = object()


def asked(**changes):
    fields = {**SIZES, "n_heads": 4, "n_kv_heads": 4, **changes}
    return archcalc.load("tiny@" + ",".join(f"{name}={value}" for name, value in fields.items()))


TIED, UNTIED = asked(), asked(tied="false")


def made(model, **settings):
    """GPT2LMHeadModel of a spec, with weights that give every part its say."""
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(gpt2_config(model, **settings)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return theirs


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """What transformers saves of a tied and of an untied model: tensors and config.json, by the spec."""
    found = {}
    for model in (TIED, UNTIED):
        folder = tmp_path_factory.mktemp("kept")
        made(model, tie_word_embeddings=model.unembedding.tied).save_pretrained(folder)
        found[id(model)] = safetensors_torch.load_file(folder / FILE), json.loads((folder / "config.json").read_text())
    return found


@pytest.fixture
def put(kept, tmp_path):
    """A writer of that folder, its tensors and its config.json changed."""

    def write(model=TIED, change=lambda tensors: tensors, metadata=None, **config):
        tensors, said = kept[id(model)]
        changed = change({name: tensor.clone() for name, tensor in tensors.items()})
        stored = {name: tensor.clone().contiguous() for name, tensor in changed.items()}
        safetensors_torch.save_file(stored, tmp_path / FILE, {"format": "pt"} if metadata is None else metadata)
        said = {name: value for name, value in {**said, **config}.items() if value is not ABSENT}
        (tmp_path / "config.json").write_text(json.dumps(said))
        return tmp_path

    return write


@torch.no_grad()
def logits(model):
    x = torch.randint(41, (2, 9), generator=torch.Generator().manual_seed(1))
    return model(x).logits.double()


def theirs_of(folder):
    """The logits of transformers; None where it loads nothing, or fills a tensor with random numbers."""
    try:
        model, told = transformers.GPT2LMHeadModel.from_pretrained(
            folder, output_loading_info=True, dtype=torch.float32
        )
    except Exception:  # noqa: BLE001  (whatever it is: it loads nothing)
        return None
    return None if told["missing_keys"] or told["mismatched_keys"] else logits(model.eval())


def refusal(model, folder):
    with pytest.raises(Invalid) as error:
        load_weights(model, str(folder))
    return str(error.value).replace(str(folder), "DIR")


def held(model, folder):
    """Load a folder; its logits must be those that transformers computes with it."""
    ours, theirs = logits(load_weights(model, str(folder), dtype=torch.float32)), theirs_of(folder)
    assert theirs is not None
    assert ours.std() > 0.5, "logits that are all alike prove nothing"
    assert (ours - theirs).abs().max() < 1e-4


# Facts of config.json

TAKEN = {
    "as it was saved": {},
    "an old one without model_type": {"model_type": ABSENT, "architectures": ABSENT, "dtype": ABSENT},
    "only what is no default": dict.fromkeys(
        ("activation_function", "layer_norm_epsilon", "n_inner", "tie_word_embeddings", "model_type"), ABSENT
    ),
    "n_inner null": {"n_inner": None},
    "sizes left to the shapes": {"vocab_size": 41, "n_embd": ABSENT, "hidden_size": 24},
    "heads by their other name": {"n_head": ABSENT, "num_attention_heads": 4},
    "layers by their other name": {"n_layer": ABSENT, "num_hidden_layers": 2},
    "positions by their other name": {"n_positions": ABSENT, "max_position_embeddings": 9},
    "n_ctx, which nobody reads": {"n_ctx": 5},
    "code of its own, which is never run": {"auto_map": {"AutoModelForCausalLM": "m.M"}},
    "GPT2Model": {"architectures": ["GPT2Model"]},
    "no architectures": {"architectures": None},
    "dropout": {"attn_pdrop": 0.5, "embd_pdrop": 0.5, "resid_pdrop": 0.5},
    "scores in fp32 first": {"reorder_and_upcast_attn": True},
    "another dtype": {"dtype": "float16", "torch_dtype": "float16"},
    "no quantization": {"quantization_config": None},
    "an end that is not a token": {"eos_token_id": 50256},
}


@pytest.mark.parametrize("config", TAKEN.values(), ids=TAKEN)
def test_a_config_that_says_the_same_is_taken(put, config):
    held(TIED, put(**config))


# What each differs in, and the file, key, value and the spec's value that the line must name.
CONTRADICTED = {
    "heads": ({"n_head": 2}, "n_head: must be 4, as in tiny; got 2"),
    "heads by another name": ({"n_head": ABSENT, "num_attention_heads": 2}, "num_attention_heads: must be 4, as in tiny; got 2"),
    "heads by two names": ({"num_attention_heads": 2}, "num_attention_heads: contradicts n_head, which is 4; got 2"),
    "heads by default": ({"n_head": ABSENT}, "n_head: is missing, and transformers assumes 12; tiny has 4"),
    "heads as text": ({"n_head": "4"}, "n_head: must be an integer; got '4'"),
    "no heads": ({"n_head": None}, "n_head: must be an integer; got null"),
    "epsilon": ({"layer_norm_epsilon": 0.1}, "layer_norm_epsilon: must be 1e-05, as in tiny; got 0.1"),
    "activation": ({"activation_function": "relu"}, "activation_function: gives mlp.activation 'relu', and tiny has 'gelu_tanh'; got 'relu'"),
    "scale": ({"scale_attn_weights": False}, "scale_attn_weights: attention without the scale of its scores is not supported; got false"),
    "scale as a number": ({"scale_attn_weights": 1}, "scale_attn_weights: attention without the scale of its scores is not supported; got 1"),
    "scale by layer": (
        {"scale_attn_by_inverse_layer_idx": True},
        "scale_attn_by_inverse_layer_idx: scores",
    ),
    "cross attention": ({"add_cross_attention": True}, "add_cross_attention: cross-attention is not supported yet; got true"),
    "attention both ways": ({"is_causal": False}, "is_causal: is not supported: each token is predicted from those before it alone; got false"),
    "vocabulary": ({"vocab_size": 40}, "vocab_size: must be 41, as in tiny; got 40"),
    "width": ({"n_embd": 48}, "n_embd: must be 24, as in tiny; got 48"),
    "layers": ({"n_layer": 3}, "n_layer: must be 2, as in tiny; got 3"),
    "positions": ({"n_positions": 10}, "n_positions: must be 9, as in tiny; got 10"),
    "hidden features": ({"n_inner": 100}, "n_inner: must be 96, as in tiny; got 100"),
    "tie": ({"tie_word_embeddings": False}, "tie_word_embeddings: must be true, as in tiny; got false; unembedding.tied=false describes that model"),
    "tie as text": ({"tie_word_embeddings": "false"}, "tie_word_embeddings: must be true or false; got 'false'"),
    "architecture": (
        {"architectures": ["GPT2ForSequenceClassification"]},
        "architectures: is not supported yet; got ['GPT2ForSequenceClassification']; supported: models that predict the next token",
    ),
    "quantization": ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantization_config: quantized weights are not supported yet; got 'gptq'"),
    "compression": ({"compression_config": {"format": "int"}}, "compression_config: quantized weights are not supported yet; got"),
    "dtype": ({"dtype": "float8_e4m3fn"}, "dtype: is not a supported type; got 'float8_e4m3fn'"),
    "old dtype": ({"torch_dtype": "torch.int8"}, "torch_dtype: is not a supported type; got 'torch.int8'"),
    "weights of another file": ({"transformers_weights": "other.safetensors"}, "transformers_weights: a different weights file is not supported; got"),
    "pruned heads": ({"pruned_heads": {"0": [1]}}, "pruned_heads: pruned heads are not supported; got"),
}  # fmt: skip


@pytest.mark.parametrize("old", [False, True], ids=["gpt2", "no model_type"])
@pytest.mark.parametrize(("config", "line"), CONTRADICTED.values(), ids=CONTRADICTED)
def test_a_config_that_contradicts_is_one_line(put, config, line, old):
    said = refusal(
        TIED, put(**({"model_type": ABSENT} if old else {}), **config) if "model_type" not in config else put(**config)
    )
    lines = said.splitlines()  # heads by default are another number, and of another width
    assert all(one.startswith("DIR/config.json: ") for one in lines)
    assert lines[0].startswith(f"DIR/config.json: {line}")


@pytest.mark.parametrize("name", ["num_heads", "num_key_value_heads", "rope_theta", "sliding_window", "hidden_act"])
@pytest.mark.parametrize("old", [False, True], ids=["gpt2", "no model_type"])
def test_a_word_of_another_family_may_bear_on_the_logits(put, name, old):
    folder = put(**{name: 2}, **({"model_type": ABSENT} if old else {}))
    assert refusal(TIED, folder).startswith(f"DIR/config.json: {name}: unknown key; it may bear on the counts; got 2")


@pytest.mark.parametrize("kind", ["llama", "gpt_neox"])
def test_a_config_of_a_family_whose_names_the_tensors_have_not_is_one_line(put, kind):
    said = refusal(TIED, put(model_type=kind))
    start = "DIR: holds weights of another architecture: its tensors are named neither as those of"
    assert said.startswith(f"{start} {kind} nor as archcalc's; got 'transformer.h.0.")


def test_a_config_of_another_family_of_the_same_names_is_refused(put):
    assert "DIR/config.json: n_embd: unknown key; it may bear on the counts; got 24" in refusal(
        TIED, put(model_type="gpt_neo")
    )


@pytest.mark.parametrize("name", sorted(transformers.activations.ACT2CLS))
def test_an_activation_is_taken_where_it_is_the_same_function(put, name):
    x = torch.linspace(-15, 15, 3001, dtype=torch.float64)
    function = transformers.activations.ACT2FN[name]
    with torch.no_grad():
        try:
            y = function.double()(x)
        except (AttributeError, RuntimeError):  # one with learned parameters in a type of their own
            y = torch.zeros_like(x)
    wanted = {"gelu": torch.nn.functional.gelu(x), "gelu_tanh": torch.nn.functional.gelu(x, approximate="tanh")}
    for ours, exact in wanted.items():
        model, folder = asked(activation=ours), put(activation_function=name)
        if (y - exact).abs().max() < 1e-6:
            assert load_weights(model, str(folder))
        else:
            said = refusal(model, folder)
            assert said.startswith("DIR/config.json: activation_function: ")
            assert "activation_function: gives mlp.activation " in said or "is not a supported activation" in said


def test_whatever_config_is_taken_has_the_logits_of_transformers(put):
    """Every two of the changes together: taken with transformers' logits, or refused."""
    one = [*TAKEN.values(), *(config for config, _ in list(CONTRADICTED.values())[:11])]
    taken = 0
    for n, first in enumerate(one):
        second = one[(7 * n + 3) % len(one)]
        folder = put(**{**first, **second})
        try:
            load_weights(TIED, str(folder))
        except Invalid:
            continue
        taken += 1
        held(TIED, folder)
    assert taken > 5


# Ties and names


def without_prefix(tensors):
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


def only_head(tensors):
    return {HEAD if name == WTE else name: tensor for name, tensor in tensors.items()}


def both(tensors):
    return {**tensors, HEAD: tensors[WTE]}


def with_masks(tensors):
    masks = {"transformer.h.0.attn.bias": torch.ones(1, 1, 9, 9).tril().bool()}
    return {**tensors, **masks, "transformer.h.1.attn.masked_bias": torch.tensor(-1e4)}


def mixed_types(tensors):
    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return {name: tensor.to(kinds[n % 4]) for n, (name, tensor) in enumerate(tensors.items())}


LOSSLESS = {
    "without a prefix": without_prefix,
    "a prefix here and there": lambda tensors: {**without_prefix({WTE: tensors.pop(WTE)}), **tensors},
    "the head alone": only_head,
    "the head alone, without a prefix": lambda tensors: without_prefix(only_head(tensors)),
    "both": both,
    "both, in other types": lambda tensors: {**tensors, WTE: tensors[WTE].half().float(), HEAD: tensors[WTE].half()},
    "masks": with_masks,
    "masks without a prefix": lambda tensors: without_prefix(with_masks(tensors)),
    "several types": mixed_types,
}


@pytest.mark.parametrize("change", LOSSLESS.values(), ids=LOSSLESS)
def test_what_transformers_loads_without_loss_loads(put, change):
    folder = put(change=change)
    held(TIED, folder)
    ours = load_weights(TIED, str(folder))
    assert ours.unembedding.weight is ours.embedding.token.weight


def test_a_tie_that_safetensors_keeps_in_its_metadata_loads(put):
    folder = put()
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder)
    safetensors_torch.save_model(theirs, folder / FILE)
    with safetensors_torch.safe_open(folder / FILE, "pt") as file:
        assert len({HEAD, WTE}.intersection(file.keys())) == 1
        assert {HEAD, WTE} <= {*file.metadata(), *file.metadata().values()}
    held(TIED, folder)
    said = refusal(UNTIED, put(metadata={HEAD: WTE}, tie_word_embeddings=ABSENT, model_type=ABSENT))
    assert said.splitlines()[-1] == (
        f"DIR/{FILE}: {HEAD}: is the same tensor as {WTE}; tiny has a head of its own; unembedding.tied=true describes that model"
    )


def test_layers_that_share_a_tensor_are_refused(put):
    first, second = "transformer.h.0.ln_1.weight", "transformer.h.1.ln_1.weight"
    folder = put(change=lambda t: {n: x for n, x in t.items() if n != second}, metadata={second: first})
    assert refusal(TIED, folder) == (
        f"DIR/{FILE}: {second}: is the same tensor as {first}: layers that share weights are not supported"
    )


@pytest.mark.parametrize("change", [lambda tensors: tensors, only_head], ids=["table", "head"])
@pytest.mark.parametrize("promised", [HEAD, WTE, "transformer.h.0.attn.bias", "transformer.h.1.attn.masked_bias"])
def test_an_index_may_promise_a_tied_head_or_a_mask(put, change, promised):
    folder = put(change=change)
    (folder / FILE).rename(folder / "model-00001-of-00001.safetensors")
    with safetensors_torch.safe_open(folder / "model-00001-of-00001.safetensors", "pt") as file:
        names = [*file.keys(), promised]
    weights = dict.fromkeys(names, "model-00001-of-00001.safetensors")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    held(TIED, folder)
    weights["transformer.h.0.ln_9.weight"] = weights[WTE] if WTE in weights else weights[HEAD]
    (folder / INDEX).write_text(json.dumps({"weight_map": weights}))
    assert "ln_9.weight: is missing" in refusal(TIED, folder)


# spec, tensors, what config.json says of the tie, and whether that is the spec's model.
TIES = [
    (TIED, "table", True, True), (TIED, "table", ABSENT, True), (TIED, "table", False, False),
    (TIED, "head", True, True), (TIED, "head", ABSENT, True), (TIED, "head", False, False),
    (TIED, "equal", True, True), (TIED, "equal", ABSENT, True), (TIED, "equal", False, False),
    (TIED, "apart", True, False), (TIED, "apart", ABSENT, False), (TIED, "apart", False, False),
    (UNTIED, "table", True, False), (UNTIED, "table", ABSENT, False), (UNTIED, "table", False, False),
    (UNTIED, "head", True, False), (UNTIED, "head", ABSENT, False), (UNTIED, "head", False, False),
    (UNTIED, "equal", True, False), (UNTIED, "equal", ABSENT, False), (UNTIED, "equal", False, True),
    (UNTIED, "apart", True, True), (UNTIED, "apart", ABSENT, True), (UNTIED, "apart", False, True),
]  # fmt: skip
STORED = {
    "table": lambda tensors: tensors,
    "head": only_head,
    "equal": both,
    "apart": lambda tensors: {**tensors, HEAD: tensors[WTE].flip(0)},
}


@pytest.mark.parametrize(("model", "stored", "said", "same"), TIES)
@pytest.mark.parametrize("old", [False, True], ids=["gpt2", "no model_type"])
def test_a_tie_is_taken_as_transformers_takes_it(put, model, stored, said, same, old):
    folder = put(TIED, STORED[stored], tie_word_embeddings=said, **({"model_type": ABSENT} if old else {}))
    if same:
        held(model, folder)
        loaded = load_weights(model, str(folder))
        assert (loaded.unembedding.weight is loaded.embedding.token.weight) == model.unembedding.tied
    else:
        said = refusal(model, folder)
        assert "\n" not in said
        assert said.startswith(
            ("DIR/config.json: tie_word_embeddings: ", f"DIR/{FILE}: {HEAD}: differs from {WTE}, ", "DIR: ")
        )


@pytest.mark.parametrize(
    "stored", [("embedding.token.weight",), ("unembedding.weight",), ("embedding.token.weight", "unembedding.weight")]
)
def test_a_tied_table_under_our_names_is_read_from_either(tmp_path, stored):
    torch.manual_seed(0)
    ours = Transformer(TIED)
    rest = {
        n: p.detach() for n, p in ours.named_parameters() if n not in ("embedding.token.weight", "unembedding.weight")
    }
    table = ours.embedding.token.weight.detach()
    safetensors_torch.save_file({**rest, **{name: table.clone() for name in stored}}, tmp_path / FILE)
    assert torch.equal(logits(load_weights(TIED, str(tmp_path))), logits(ours))


# Another layout, another format


def turned(tensors):
    """As nn.Linear has it: nanoGPT's own, and what MLX writes."""
    return {name: t.t() if ".h." in name and t.dim() == 2 else t for name, t in tensors.items()}


def test_transposed_matrices_are_told_in_one_line(put):
    assert refusal(TIED, put(change=turned)) == (
        "DIR: transformer.h.0.attn.c_attn.weight: is transposed, as are all matrices of this folder; "
        "tiny expects (in, out), as gpt2 stores them; got 72 x 24; tiny expects 24 x 72"
    )
    square = asked(d_ff=24)  # c_attn alone shows it
    folder = put(n_inner=24)
    stored = {name: t for name, t in made(square).state_dict().items() if name != HEAD}
    safetensors_torch.save_file({name: t.contiguous() for name, t in turned(stored).items()}, folder / FILE)
    assert " is transposed, as are all matrices of this folder; " in refusal(square, folder)


def test_transposed_matrices_under_our_names_are_told(tmp_path):
    torch.manual_seed(0)
    parameters = dict(Transformer(TIED).named_parameters())
    stored = {n: p.t() if n.startswith("layers.") and p.dim() == 2 else p for n, p in parameters.items()}
    safetensors_torch.save_file({n: p.detach().contiguous() for n, p in stored.items()}, tmp_path / FILE)
    said = refusal(TIED, tmp_path)
    assert said.startswith("DIR: layers.0.mlp.down.weight: is transposed, as are all matrices of this folder")
    assert "\n" not in said


@pytest.mark.parametrize("form", ["mlx", "flax", "tf"])
def test_a_format_with_another_layout_is_refused_though_shapes_agree(put, form):
    said = refusal(TIED, put(metadata={"format": form}))
    assert said.startswith(f"DIR/{FILE}: format: is in ")
    assert said.endswith(f"in which matrices may be transposed; got '{form}'; supported: 'pt'")


QUANTIZED = {
    "gptq": ("transformer.h.0.attn.c_attn.qweight", torch.int32),
    "awq": ("transformer.h.0.attn.c_attn.qzeros", torch.int32),
    "bitsandbytes": ("transformer.h.0.attn.c_attn.weight.absmax", torch.float32),
    "bitsandbytes int8": ("transformer.h.0.attn.c_attn.SCB", torch.float32),
    "nf4": ("transformer.h.0.attn.c_attn.weight.quant_state.bitsandbytes__nf4", torch.uint8),
    "int8": ("transformer.h.0.attn.c_attn.weight", torch.int8),
    "packed": ("transformer.h.0.attn.c_attn.weight", torch.uint8),
    "fp8": ("transformer.h.0.attn.c_attn.weight", torch.float8_e4m3fn),
    "fp8 scales": ("transformer.h.0.attn.c_attn.weight_scale_inv", torch.float32),
    "mlx": ("transformer.h.0.attn.c_attn.scales", torch.float32),
}


@pytest.mark.parametrize(("name", "kind"), QUANTIZED.values(), ids=QUANTIZED)
def test_quantized_tensors_are_refused_by_name(put, name, kind):
    said = refusal(TIED, put(change=lambda tensors: {**tensors, name: torch.ones(24, 72).to(kind)}))
    assert said.startswith(f"DIR/{FILE}: {name}: belongs to quantized weights, which are not supported yet; got ")
    assert "\n" not in said


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "quantize_config.json", "quant_config.json", "hf_quant_config.json"]
)
def test_files_that_change_the_model_are_refused(put, name):
    folder = put()
    (folder / name).write_text("{}")
    assert "\n" not in (said := refusal(TIED, folder))
    assert said.startswith(f"DIR/{name}: ")
    assert "supported yet" in said


@pytest.mark.parametrize(
    "name",
    ["model.onnx", "weights.npz", "tf_model.h5", "flax_model.msgpack", "model.ckpt.index"],
)
def test_other_formats_are_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    said = refusal(TIED, tmp_path)
    assert said.startswith(f"DIR: holds {name}: ")
    assert said.endswith(f" is not supported; weights are read from {FILE}")


def test_a_name_with_and_without_its_prefix_is_stored_twice(put):
    name = "transformer.ln_f.bias"
    said = refusal(TIED, put(change=lambda tensors: {**tensors, "ln_f.bias": tensors[name]}))
    assert "is also stored as " in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tied": "false"}, "unembedding.tied"),
        ({"context_length": 8}, "context_length"),
        ({"n_heads": 2, "n_kv_heads": 2, "d_head": 12}, "layers.0.attention.n_heads"),
    ],
)
def test_the_spec_beside_the_weights_is_compared(put, change, field):
    folder = put()
    (folder / "config.json").unlink()
    (folder / "spec.yaml").write_text(archcalc.dump(asked(**change)))
    assert f"DIR/spec.yaml: {field}: must be " in refusal(TIED, folder)


# Numbers that are not finite


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_is_refused_by_name(put, kept, value, kind):
    for n, name in enumerate(list(kept[id(TIED)][0])[::3]):

        def change(tensors, name=name, n=n):
            tensors[name] = tensors[name].to(kind)
            tensors[name].view(-1)[-(n % 2)] = value  # the first number, or the last
            return tensors

        folder = put(change=change)
        with pytest.raises(Invalid) as error:
            load_weights(TIED, str(folder), dtype=(None, torch.float32, torch.bfloat16)[n % 3])
        assert str(error.value) == f"{folder}/{FILE}: {name}: has a number that is not finite; got {value}"


def test_a_weight_that_its_type_cannot_hold_is_refused(put):
    def change(tensors):
        tensors[WTE] = tensors[WTE].double()
        tensors[WTE][3, 3] = -1e300
        return tensors

    folder = put(change=change)
    assert load_weights(TIED, str(folder)).embedding.token.weight.dtype == torch.float64
    with pytest.raises(Invalid, match=f"{WTE}: has a number too large for float32; got -1e\\+300$"):
        load_weights(TIED, str(folder), dtype=torch.float32)


COMMANDS = {
    "predict": ("predict", "SPEC", "--prompt", "a", "--weights", "DIR"),
    "generate": ("generate", "SPEC", "--prompt", "a", "--weights", "DIR"),
    "generate in bf16": ("generate", "SPEC", "--prompt", "a", "--weights", "DIR", "--precision", "bf16"),
    "trace": ("trace", "SPEC", "--prompt", "a", "--weights", "DIR"),
    "trace of a word": ("trace", "SPEC", "--prompt", "a", "--prompt", "ba", "--word", "a", "--weights", "DIR"),
    "trace of senses": ("trace", "SPEC", "--group", "x=a", "--group", "y=ba", "--word", "a", "--weights", "DIR"),
    "chat": ("chat", "SPEC", "--weights", "DIR"),
    "train": ("train", "SPEC", "--from", "DIR", "--out", "DIR/new", "--steps", "1", "--batch", "1", "--seq", "4"),
    "embed": ("embed", "DIR", "a"),
    "embed along": ("embed", "DIR", "a", "--along", "a"),
}


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_no_command_works_with_weights_that_are_not_finite(tmp_path, command, value):
    fields = ",".join(f"{name}={value}" for name, value in {**SIZES, "vocab_size": 256}.items())
    spec = f"tiny@{fields},n_heads=4,n_kv_heads=4"
    folder = tmp_path / "w"
    with torch.no_grad():
        ours = Transformer(archcalc.load(spec))
        ours.embedding.token.weight[ord("a"), 3] = value
    save_weights(ours, str(folder))
    done = ask(*(part.replace("SPEC", spec).replace("DIR", str(folder)) for part in command))
    assert (done.code, done.out) == (2, "")
    assert [line for line in done.err.splitlines() if "not finite" in line] == [done.err.splitlines()[-1]]
    assert f"{folder}/{FILE}: {WTE}: " in done.err
    assert not (folder / "new").exists() or not list((folder / "new").glob("step-*"))


@pytest.mark.parametrize("tied", [True, ABSENT, False])
@pytest.mark.parametrize("name", [HEAD, "unembedding.weight"])
def test_embed_reads_a_table_that_is_stored_as_the_head(tmp_path, name, tied):
    table = torch.arange(512).view(256, 2) % 7 + 1.0
    safetensors_torch.save_file({name: table}, tmp_path / FILE)
    config = {} if tied is ABSENT else {"tie_word_embeddings": tied}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = ask("embed", str(tmp_path), "a", "--rank", "b", "-f", "json")
    if tied is False:  # then it is no table of tokens
        assert (done.code, done.err) == (
            2, f"{tmp_path}: has no token embedding; expected {WTE if name == HEAD else 'embedding.token.weight'}\n",
        )  # fmt: skip
    else:
        (row,) = (row for row in done.json["rows"] if row["word"] == "b")
        assert row["dot"] == table[ord("a")] @ table[ord("b")]


# Settings of drawing

ENDS = {
    "config alone": ({"eos_token_id": 5}, None, {5}),
    "a list": ({"eos_token_id": [5, 6]}, None, {5, 6}),
    "null": ({"eos_token_id": None}, None, set()),
    "the other file wins": ({"eos_token_id": 5}, {"eos_token_id": 7}, {7}),
    "the other file says none": ({"eos_token_id": 5}, {"temperature": 0.5}, set()),
}


@pytest.mark.parametrize(("config", "drawing", "ends"), ENDS.values(), ids=ENDS)
def test_what_ends_a_text_is_what_transformers_takes(put, config, drawing, ends):
    folder = put(**config)
    if drawing is not None:
        (folder / "generation_config.json").write_text(json.dumps(drawing))
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder).generation_config.eos_token_id
    assert set(theirs if isinstance(theirs, list) else [] if theirs is None else [theirs]) == ends
    assert ends_of(str(folder)) == ends


@pytest.mark.parametrize("value", ["5", True, 5.0, {"a": 5}, [5, None], [[5]]])
def test_an_end_that_is_no_id_is_refused(put, value):
    folder = put(eos_token_id=value)
    with pytest.raises(
        Invalid, match=r"/config\.json: eos_token_id: must be the id of a token, or a list of ids; got "
    ):
        ends_of(str(folder))


@pytest.mark.parametrize(
    ("told", "sampling", "line"),
    [
        ({}, Sampling(), None),
        ({"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "num_beams": 1}, Sampling(), None),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9}, Sampling(0.6, top_p=0.9), None),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9}, Sampling(),
         "its settings are --temperature 0.6 --top-p 0.9, which are not applied by default"),
        ({"top_k": 50}, Sampling(top_k=40), "its settings are --top-k 50, which are not applied by default"),
        ({"do_sample": False, "temperature": 0.6}, Sampling(), "its settings are --temperature 0, which are not applied by default"),
        ({"do_sample": False}, Sampling(0.0), None),
        ({"temperature": 0.6}, Sampling(0.0), None),
        ({"repetition_penalty": 1.2, "num_beams": 4}, Sampling(),
         "its settings are --repetition-penalty 1.2, which are not applied by default; num_beams 4: not supported yet"),
        ({"repetition_penalty": 1.2, "min_p": 0.1, "temperature": 0.6}, Sampling(0.0),  # bears on a greedy text, the others do not
         "its settings are --repetition-penalty 1.2, which are not applied by default"),
        ({"repetition_penalty": 1.2, "do_sample": False, "min_p": 0.1}, Sampling(),
         "its settings are --temperature 0 --repetition-penalty 1.2, which are not applied by default"),
        ({"min_p": 0.1, "repetition_penalty": 1.2}, Sampling(min_p=0.1, repetition_penalty=1.2), None),
        ({"min_p": 0.05, "top_k": 0}, Sampling(), "its settings are --min-p 0.05, which are not applied by default"),
        ({"bad_words_ids": [[3]], "top_p": 0.5}, Sampling(),
         "its settings are --top-p 0.5, which are not applied by default; bad_words_ids [[3]]: not supported yet"),
    ],
)  # fmt: skip
def test_settings_that_are_not_followed_are_one_line(tmp_path, told, sampling, line):
    (tmp_path / "generation_config.json").write_text(json.dumps(told))
    said = not_taken(str(tmp_path), sampling)
    assert said == (None if line is None else f"{tmp_path}/generation_config.json: {line}")


def test_a_drawing_tells_the_settings_that_it_does_not_follow(tmp_path):
    fields = ",".join(f"{name}={value}" for name, value in {**SIZES, "vocab_size": 256}.items())
    spec = f"tiny@{fields},n_heads=4,n_kv_heads=4"
    save_weights(Transformer(archcalc.load(spec)), str(tmp_path / "w"))
    (tmp_path / "w" / "generation_config.json").write_text('{"temperature": 0.6, "repetition_penalty": 1.3}')
    line = (
        f"{tmp_path}/w/generation_config.json: its settings are --temperature 0.6 --repetition-penalty 1.3, "
        "which are not applied by default"
    )
    draw = ("generate", spec, "--prompt", "a", "--weights", str(tmp_path / "w"), "--max-tokens", "1")
    done = ask(*draw)
    assert done.code == 0
    assert line in done.err.splitlines()
    assert "which are not taken" not in ask(*draw, "--temperature", "0.6").err


@pytest.mark.parametrize("old", [False, True], ids=["gpt2", "no model_type"])
@pytest.mark.parametrize(("other", "name"), transformers.GPT2Config.attribute_map.items())
def test_each_other_name_of_gpt2config_is_compared(put, kept, other, name, old):
    value = kept[id(TIED)][1][name] + 4
    config = {name: ABSENT, other: value, **({"model_type": ABSENT} if old else {})}
    assert refusal(TIED, put(**config)).startswith(f"DIR/config.json: {other}: must be ")
