"""The reference beside models of transformers, feature by feature: one small random model of a family that has it.

Specs and names are written out here by hand. All weights are random, texts are longer than any window or trained
context, and logits agree to 1e-4 of the largest, by both kernels and by way of a cache.
"""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from archcalc.spec.model import Model  # noqa: E402
from archcalc_reference.model.transformer import Cache, Transformer  # noqa: E402

D, HEADS, KV_HEADS, D_HEAD, D_FF, VOCABULARY, CONTEXT, LAYERS = 48, 6, 2, 12, 40, 61, 384, 3
LENGTH = 300
ORIGINAL = 128  # positions that a model with scaled angles was trained with

RMS = {"kind": "rmsnorm", "epsilon": 1e-5}
OFFSET = {**RMS, "unit_offset": True}
LAYERNORM = {"kind": "layernorm", "bias": True, "epsilon": 1e-5}
GAINS = {"kind": "layernorm", "bias": False, "epsilon": 1e-5}


def attention(**fields):
    sizes = {"kind": "multi_head", "n_heads": HEADS, "n_kv_heads": KV_HEADS, "d_head": D_HEAD, "bias": False}
    return {**sizes, "rotary": {"d_rotary": D_HEAD, "theta": 10_000}, **fields}


def square(**fields):
    """Heads that make up d_model, each with its own keys and values."""
    return attention(n_kv_heads=HEADS, d_head=D // HEADS, **{"rotary": None, "bias": True, **fields})


def rotary(d_rotary=D_HEAD, **fields):
    return {"rotary": {"d_rotary": d_rotary, "theta": 10_000, **fields}}


def gated(activation="silu", **fields):
    return {"kind": "gated", "d_ff": D_FF, "activation": activation, "bias": False, **fields}


def plain(activation="gelu", **fields):
    return {"kind": "plain", "d_ff": D_FF, "activation": activation, "bias": True, **fields}


def spec(layer, **fields):
    """A model of alike layers; a layer without a norm of its own has RMSNorm."""
    found = {
        "schema": 0,
        "name": "small",
        "source": "transformers",
        "vocab_size": VOCABULARY,
        "context_length": CONTEXT,
        "d_model": D,
        "embedding": {"positions": "none"},
        "layers": [{"repeat": LAYERS, "norm": RMS, "attention": attention(), "mlp": gated(), **layer}],
        "final_norm": RMS,
        "unembedding": {"tied": False, "bias": False},
    }
    return {**found, **fields}


def config(name, **fields):
    """A config with the sizes above, by the names that most families have for them."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": D,
        "intermediate_size": D_FF,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": D_HEAD,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-5,
        "layer_norm_eps": 1e-5,
    }
    off = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None, "attn_implementation": "eager"}
    said = {key: value for key, value in {**sizes, **fields}.items() if key != "head_dim" or value is not None}
    return getattr(transformers, f"{name}Config")(**{**off, **said})


# Our names, and theirs; {i} is the layer.
ENDS = {
    "embedding.token.weight": "model.embed_tokens.weight",
    "final_norm": "model.norm",
    "unembedding": "lm_head",
}
PROJECTIONS = {
    f"layers.{{i}}.attention.{ours}": f"model.layers.{{i}}.self_attn.{theirs}"
    for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("output", "o_proj"))
}
GATED = {f"layers.{{i}}.mlp.{name}": f"model.layers.{{i}}.mlp.{name}_proj" for name in ("gate", "up", "down")}
PRE_NORMS = {
    "layers.{i}.attention_norm": "model.layers.{i}.input_layernorm",
    "layers.{i}.mlp_norm": "model.layers.{i}.post_attention_layernorm",
}
POST_NORMS = {
    "layers.{i}.attention_post_norm": "model.layers.{i}.post_attention_layernorm",
    "layers.{i}.mlp_post_norm": "model.layers.{i}.post_feedforward_layernorm",
}
FOUR_NORMS = {**PRE_NORMS, **POST_NORMS, "layers.{i}.mlp_norm": "model.layers.{i}.pre_feedforward_layernorm"}
QK_NORMS = {
    f"layers.{{i}}.attention.{name}_norm": f"model.layers.{{i}}.self_attn.{name[0]}_norm" for name in ("query", "key")
}
LLAMA = {**ENDS, **PROJECTIONS, **GATED, **PRE_NORMS}


def fused_by_head(weights, name, stacked=False):
    """Query, key and value of each head follow each other (GPT-NeoX, BLOOM); or all of each do (MPT, Phi-3)."""
    whole = weights.pop(name)
    if stacked:
        heads = [HEADS, KV_HEADS, KV_HEADS] if stacked == "grouped" else [1, 1, 1]
        return whole.split([whole.shape[0] // sum(heads) * n for n in heads])
    parts = whole.view(HEADS, 3, D // HEADS, *whole.shape[1:])
    return [parts[:, i].flatten(0, 1) for i in range(3)]


def turned(theta=10_000.0, **fields):
    """Plain rotary positions, where a family has others by default."""
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, **fields}}


def unfused(stacked=False):
    """Split fused projections of theirs into tensors that are named as in the tables above."""

    def split(weights):
        for name in [
            name for name in weights if any(word in name for word in ("query_key_value", "Wqkv", "qkv_proj"))
        ]:
            stem, end = name.rsplit(".", 2)[0], name.rsplit(".", 1)[1]
            for part, tensor in zip("qkv", fused_by_head(weights, name, stacked), strict=True):
                weights[f"{stem}.{part}_proj.{end}"] = tensor
        for name in [name for name in weights if "gate_up_proj" in name]:
            gate, up = weights.pop(name).chunk(2)
            weights[name.replace("gate_up", "gate")], weights[name.replace("gate_up", "up")] = gate, up

    return split


def renamed(table, **words):
    """A table with other words of theirs."""
    found = {}
    for ours, theirs in table.items():
        for old, new in words.items():
            theirs = theirs.replace(old, new)
        found[ours] = theirs
    return found


def per_head(weights):
    """StableLM keeps a norm for each head."""
    for name in [name for name in weights if ".norms.0." in name]:
        heads = HEADS if "q_layernorm" in name else KV_HEADS
        parts = [weights.pop(name.replace(".norms.0.", f".norms.{i}.")) for i in range(heads)]
        weights[name.replace(".norms.0.", ".")] = torch.stack(parts)


def gptx(stem, attention_names, mlp_names, norms, ends):
    """A table for the older families, from their words."""
    layer = f"{stem}.{{i}}."
    found = dict(zip(("embedding.token.weight", "final_norm", "unembedding"), ends, strict=True))
    for branch, names in (("attention", attention_names), ("mlp", mlp_names)):
        found |= {f"layers.{{i}}.{branch}.{ours}": layer + theirs for ours, theirs in names.items()}
    return found | {f"layers.{{i}}.{ours}": layer + theirs for ours, theirs in norms.items()}


NEOX = gptx(
    "gpt_neox.layers",
    {"query": "attention.q_proj", "key": "attention.k_proj", "value": "attention.v_proj", "output": "attention.dense"},
    {"up": "mlp.dense_h_to_4h", "down": "mlp.dense_4h_to_h"},
    {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"},
    ("gpt_neox.embed_in.weight", "gpt_neox.final_layer_norm", "lm_head"),
)
GPTJ = gptx(
    "transformer.h",
    {"query": "attn.q_proj", "key": "attn.k_proj", "value": "attn.v_proj", "output": "attn.out_proj"},
    {"up": "mlp.fc_in", "down": "mlp.fc_out"},
    {"attention_norm": "ln_1"},
    ("transformer.wte.weight", "transformer.ln_f", "lm_head"),
)
BLOOM = gptx(
    "transformer.h",
    {
        f"{ours}": f"self_attention.{theirs}"
        for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("output", "dense"))
    },
    {"up": "mlp.dense_h_to_4h", "down": "mlp.dense_4h_to_h"},
    {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"},
    ("transformer.word_embeddings.weight", "transformer.ln_f", "lm_head"),
) | {"embedding.norm": "transformer.word_embeddings_layernorm"}
MPT = gptx(
    "transformer.blocks",
    {"query": "attn.q_proj", "key": "attn.k_proj", "value": "attn.v_proj", "output": "attn.out_proj"},
    {"up": "ffn.up_proj", "down": "ffn.down_proj"},
    {"attention_norm": "norm_1", "mlp_norm": "norm_2"},
    ("transformer.wte.weight", "transformer.norm_f", "lm_head"),
)
OPT = gptx(
    "model.decoder.layers",
    {
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "output": "self_attn.out_proj",
    },
    {"up": "fc1", "down": "fc2"},
    {"attention_stream_norm": "self_attn_layer_norm", "mlp_stream_norm": "final_layer_norm"},
    ("model.decoder.embed_tokens.weight", "-", "lm_head"),
) | {
    "embedding.position": "model.decoder.embed_positions",
    "embedding.projection": "model.decoder.project_in",
    "unembedding.projection": "model.decoder.project_out",
}

TIED = {"tied": True, "bias": False}


def scaled(kind, **fields):
    """A Llama whose angles are scaled: transformers' settings, and ours."""
    theirs = {"rope_type": kind, "rope_theta": 10_000.0, **fields}
    if kind in ("yarn", "llama3", "longrope"):
        theirs["original_max_position_embeddings"] = ORIGINAL
    ours = {"kind": kind, **fields}
    if kind != "linear":
        ours["original_context_length"] = CONTEXT if kind == "dynamic" else ORIGINAL
    return config("Llama", rope_parameters=theirs), spec({"attention": attention(**rotary(scaling=ours))}), LLAMA


LONG = [1.0 + 0.7 * i for i in range(D // HEADS // 2)]
SHORT = [1.0 + 0.1 * i for i in range(D // HEADS // 2)]
PATTERN = ["local", "local", "global"]
TYPES = ["sliding_attention", "sliding_attention", "full_attention"]


def alternating(local, wide, **both):
    kinds = {"local": {"norm": RMS, "mlp": gated(), "attention": local, **both}}
    kinds["global"] = {**kinds["local"], "attention": wide}
    return {"layers": [{"repeat": LAYERS, "pattern": PATTERN, "kinds": kinds}]}


# feature -> their config, our spec, the table of names, and what is done to their tensors before
CASES = {
    "llama": lambda: (config("Llama"), spec({}), LLAMA),
    "linear": lambda: scaled("linear", factor=4.0),
    "dynamic": lambda: scaled("dynamic", factor=4.0),
    "yarn": lambda: scaled("yarn", factor=4.0),
    "yarn, all settings": lambda: scaled(
        "yarn", factor=8.0, beta_fast=16.0, beta_slow=2.0, mscale=0.7, mscale_all_dim=1.3, truncate=False
    ),
    "yarn, attention factor": lambda: scaled("yarn", factor=8.0, attention_factor=1.7),
    "llama3": lambda: scaled("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0),
    "longrope": lambda: (
        config(
            "Phi3",
            head_dim=None,
            rope_parameters={
                "rope_type": "longrope",
                "rope_theta": 10_000.0,
                "short_factor": SHORT,
                "long_factor": LONG,
                "original_max_position_embeddings": ORIGINAL,
            },
            original_max_position_embeddings=ORIGINAL,
        ),
        spec(
            {
                "attention": attention(
                    d_head=D // HEADS,
                    **rotary(
                        D // HEADS,
                        scaling={
                            "kind": "longrope",
                            "short_factor": SHORT,
                            "long_factor": LONG,
                            "original_context_length": ORIGINAL,
                        },
                    ),
                )
            }
        ),
        LLAMA,
        unfused("grouped"),
    ),
    "biases": lambda: (
        config("Llama", attention_bias=True, mlp_bias=True),
        spec({"attention": attention(bias=True), "mlp": gated(bias=True)}),
        LLAMA,
    ),
    "biases of queries, keys and values": lambda: (
        config("Qwen2", head_dim=None),
        spec(
            {
                "attention": attention(
                    d_head=D // HEADS,
                    bias={"query": True, "key": True, "value": True, "output": False},
                    **rotary(D // HEADS),
                )
            }
        ),
        LLAMA,
    ),
    "q/k norm of heads": lambda: (config("Qwen3"), spec({"attention": attention(qk_norm=RMS)}), LLAMA | QK_NORMS),
    "gemma": lambda: (
        config("Gemma", hidden_act="gelu_pytorch_tanh", tie_word_embeddings=True),
        spec(
            {"norm": OFFSET, "mlp": gated("gelu_tanh")},
            embedding={"positions": "none", "scale": "sqrt_d_model"},
            final_norm=OFFSET,
            unembedding=TIED,
        ),
        LLAMA,
    ),
    "gemma2": lambda: (
        config(
            "Gemma2",
            hidden_activation="gelu_pytorch_tanh",
            tie_word_embeddings=True,
            sliding_window=50,
            layer_types=TYPES,
            query_pre_attn_scalar=24,
            attn_logit_softcapping=5.0,
            final_logit_softcapping=3.0,
        ),
        spec(
            {},
            **alternating(
                attention(scale=24**-0.5, softcap=5.0, window=50),
                attention(scale=24**-0.5, softcap=5.0),
                norm=OFFSET,
                post_norm=OFFSET,
                mlp=gated("gelu_tanh"),
            ),
            embedding={"positions": "none", "scale": "sqrt_d_model"},
            final_norm=OFFSET,
            unembedding={**TIED, "softcap": 3.0},
        ),
        LLAMA | FOUR_NORMS,
    ),
    "gemma3": lambda: (
        config(
            "Gemma3Text",
            hidden_activation="gelu_pytorch_tanh",
            tie_word_embeddings=True,
            sliding_window=50,
            layer_types=TYPES,
            query_pre_attn_scalar=24,
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
            },
        ),
        spec(
            {},
            **alternating(
                attention(scale=24**-0.5, window=50, qk_norm=OFFSET),
                attention(
                    scale=24**-0.5,
                    qk_norm=OFFSET,
                    **rotary(theta=1_000_000, scaling={"kind": "linear", "factor": 8.0}),
                ),
                norm=OFFSET,
                post_norm=OFFSET,
                mlp=gated("gelu_tanh"),
            ),
            embedding={"positions": "none", "scale": "sqrt_d_model"},
            final_norm=OFFSET,
            unembedding=TIED,
        ),
        LLAMA | FOUR_NORMS | QK_NORMS,
    ),
    "cohere": lambda: (
        config("Cohere", use_qk_norm=True, tie_word_embeddings=True, logit_scale=0.25, head_dim=None, **turned()),
        spec(
            {
                "norm": GAINS,
                "parallel": "shared",
                "attention": attention(
                    d_head=D // HEADS, qk_norm=GAINS, qk_norm_over="heads", **rotary(D // HEADS, pairing="neighbours")
                ),
            },
            final_norm=GAINS,
            unembedding={**TIED, "scale": 0.25},
        ),
        LLAMA | QK_NORMS,
    ),
    "gpt-neox": lambda: (
        config("GPTNeoX", head_dim=None, **turned(partial_rotary_factor=0.25)),
        spec(
            {"norm": LAYERNORM, "parallel": "own", "attention": square(**rotary(2)), "mlp": plain()},
            final_norm=LAYERNORM,
        ),
        NEOX,
        unfused(),
    ),
    "gpt-j": lambda: (
        transformers.GPTJConfig(
            vocab_size=VOCABULARY,
            n_positions=CONTEXT,
            n_embd=D,
            n_layer=LAYERS,
            n_head=HEADS,
            n_inner=D_FF,
            rotary_dim=4,
            bos_token_id=None,
            eos_token_id=None,
            attn_implementation="eager",
        ),
        spec(
            {
                "norm": LAYERNORM,
                "parallel": "shared",
                "attention": square(bias=False, **rotary(4, pairing="neighbours")),
                "mlp": plain("gelu_tanh"),
            },
            final_norm=LAYERNORM,
            unembedding={"tied": False, "bias": True},
        ),
        GPTJ,
    ),
    "bloom": lambda: (
        transformers.BloomConfig(
            vocab_size=VOCABULARY,
            hidden_size=D,
            n_layer=LAYERS,
            n_head=HEADS,
            bos_token_id=None,
            eos_token_id=None,
            attn_implementation="eager",
        ),
        spec(
            {"norm": LAYERNORM, "attention": square(alibi=True), "mlp": plain("gelu_tanh", d_ff=4 * D)},
            embedding={"positions": "none", "norm": LAYERNORM},
            final_norm=LAYERNORM,
            unembedding=TIED,
        ),
        BLOOM,
        unfused(),
    ),
    "mpt": lambda: (
        transformers.MptConfig(
            vocab_size=VOCABULARY,
            d_model=D,
            n_layers=LAYERS,
            n_heads=HEADS,
            expansion_ratio=4,
            max_seq_len=CONTEXT,
            attn_config={"alibi": True, "clip_qkv": 0.9, "softmax_scale": 0.3},
            attn_implementation="eager",
        ),
        spec(
            {
                "norm": GAINS,
                "attention": square(bias=False, alibi=True, clip=0.9, scale=0.3),
                "mlp": plain(d_ff=4 * D, bias=False),
            },
            final_norm=GAINS,
            unembedding=TIED,
        ),
        MPT,
        unfused("square"),
    ),
    "olmo": lambda: (
        config("Olmo", clip_qkv=0.9, head_dim=None),
        spec(
            {
                "norm": {"kind": "layernorm", "bias": False, "gain": False},
                "attention": attention(d_head=D // HEADS, clip=0.9, **rotary(D // HEADS)),
            },
            final_norm={"kind": "layernorm", "bias": False, "gain": False},
        ),
        LLAMA,
    ),
    "olmo2": lambda: (
        config("Olmo2", head_dim=None),
        spec(
            {
                "norm": None,
                "post_norm": RMS,
                "attention": attention(d_head=D // HEADS, qk_norm=RMS, qk_norm_over="width", **rotary(D // HEADS)),
            }
        ),
        {**ENDS, **PROJECTIONS, **GATED, **POST_NORMS, **QK_NORMS},
    ),
    "stablelm": lambda: (
        config(
            "StableLm",
            qk_layernorm=True,
            use_parallel_residual=True,
            use_qkv_bias=True,
            head_dim=None,
            **turned(partial_rotary_factor=0.5),
        ),
        spec(
            {
                "norm": LAYERNORM,
                "parallel": "shared",
                "attention": attention(
                    d_head=D // HEADS,
                    bias={"query": True, "key": True, "value": True, "output": False},
                    qk_norm=GAINS,
                    qk_norm_over="heads",
                    **rotary(4),
                ),
            },
            final_norm=LAYERNORM,
        ),
        renamed(LLAMA | QK_NORMS, q_norm="q_layernorm", k_norm="k_layernorm"),
        per_head,
    ),
    "apertus": lambda: (
        config("Apertus", hidden_act="xielu", **turned()),
        spec({"attention": attention(qk_norm=RMS), "mlp": plain("xielu", bias=False)}),
        renamed(
            LLAMA | QK_NORMS, input_layernorm="attention_layernorm", post_attention_layernorm="feedforward_layernorm"
        )
        | {f"layers.{{i}}.mlp.alpha_{side}": f"model.layers.{{i}}.mlp.act_fn.alpha_{side}" for side in "pn"},
    ),
    "nemotron": lambda: (
        config(
            "Nemotron",
            hidden_act="relu2",
            norm_eps=1e-5,
            **turned(partial_rotary_factor=0.5),
        ),
        spec(
            {
                "norm": {**LAYERNORM, "unit_offset": True},
                "attention": attention(**rotary(6)),
                "mlp": plain("relu2", bias=False),
            },
            final_norm={**LAYERNORM, "unit_offset": True},
        ),
        LLAMA,
    ),
    "granite": lambda: (
        config(
            "Granite",
            head_dim=None,
            embedding_multiplier=12.0,
            logits_scaling=8.0,
            residual_multiplier=0.22,
            attention_multiplier=0.4,
        ),
        spec(
            {"scale": 0.22, "attention": attention(d_head=D // HEADS, scale=0.4, **rotary(D // HEADS))},
            embedding={"positions": "none", "scale": 12.0},
            unembedding={"tied": False, "bias": False, "scale": 1 / 8},
        ),
        LLAMA,
    ),
    "opt-350m": lambda: (
        transformers.OPTConfig(
            vocab_size=VOCABULARY,
            hidden_size=D,
            num_hidden_layers=LAYERS,
            ffn_dim=D_FF,
            num_attention_heads=HEADS,
            max_position_embeddings=CONTEXT,
            word_embed_proj_dim=20,
            do_layer_norm_before=False,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
            attn_implementation="eager",
        ),
        spec(
            {"norm": None, "stream_norm": LAYERNORM, "attention": square(), "mlp": plain("relu")},
            embedding={"positions": "learned", "extra_positions": 2, "d_embedding": 20},
            final_norm=None,
            unembedding={**TIED, "d_embedding": 20},
        ),
        OPT,
    ),
    "hunyuan": lambda: (
        config("HunYuanDenseV1"),
        spec({"attention": attention(qk_norm=RMS, qk_norm_place="after")}),
        renamed(LLAMA | QK_NORMS, q_norm="query_layernorm", k_norm="key_layernorm"),
    ),
    "ministral3": lambda: (
        config(
            "Ministral3",
            sliding_window=None,
            rope_parameters={
                "rope_type": "yarn",
                "rope_theta": 10_000.0,
                "factor": 4.0,
                "original_max_position_embeddings": ORIGINAL,
                "llama_4_scaling_beta": 0.5,
            },
        ),
        spec(
            {
                "attention": attention(
                    query_growth={"rate": 0.5, "interval": ORIGINAL},
                    **rotary(scaling={"kind": "yarn", "factor": 4.0, "original_context_length": ORIGINAL}),
                )
            }
        ),
        LLAMA,
    ),
    "nanochat": lambda: (
        config("NanoChat", head_dim=None, rms_norm_eps=1e-6, final_logit_softcapping=15.0),
        spec(
            {
                "norm": {"kind": "rmsnorm", "gain": False, "epsilon": 1e-6},
                "attention": attention(
                    d_head=D // HEADS,
                    qk_norm={"kind": "rmsnorm", "gain": False, "epsilon": 1e-6},
                    qk_norm_place="after",
                    **rotary(D // HEADS, reversed=True),
                ),
                "mlp": plain("relu2", bias=False),
            },
            embedding={"positions": "none", "norm": {"kind": "rmsnorm", "gain": False, "epsilon": 1e-6}},
            final_norm={"kind": "rmsnorm", "gain": False, "epsilon": 1e-6},
            unembedding={"tied": False, "bias": False, "softcap": 15.0},
        ),
        renamed(LLAMA, up_proj="fc1", down_proj="fc2"),
    ),
}


def theirs_of(configuration):
    """Their model with random weights: matrices of some size, gains around 1, biases around 0."""
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(configuration).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            small = torch.randn_like(parameter) * (0.2 if parameter.dim() > 1 else 0.1)
            gain = parameter.dim() == 1 and name.endswith("weight") and parameter.mean() == 1
            parameter.copy_(small + 1 if gain else small)
    return model


def lend(model, weights, table):
    """Copy their weights into the reference; every one of ours gets one."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            layer = name.split(".")[1] if name.startswith("layers.") else ""
            pattern = name.replace(f"layers.{layer}.", "layers.{i}.") if layer else name
            stem, _, end = pattern.rpartition(".")
            source = table[pattern] if pattern in table else f"{table[stem]}.{end}"
            parameter.copy_(weights[source.replace("{i}", layer)].view(parameter.shape))


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_transformers(name):
    configuration, described, table, *changed = CASES[name]()
    theirs = theirs_of(configuration)
    weights = dict(theirs.state_dict())
    for change in changed:
        change(weights)
    model = Transformer(Model.model_validate(described)).eval()
    lend(model, weights, table)
    tokens = torch.randint(VOCABULARY, (2, LENGTH), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(tokens, use_cache=False).logits
        bound = 1e-4 * expected.abs().max()
        for kernel in ("math", "flash"):
            assert (model(tokens, kernel=kernel).logits - expected).abs().max() < bound, kernel
            cache = Cache(model.spec, 2, LENGTH)
            parts = [
                model(part, kernel=kernel, cache=cache).logits for part in tokens.split([150, 146, 1, 1, 1, 1], 1)
            ]
            assert (torch.cat(parts, 1) - expected).abs().max() < bound, kernel
