"""Small models that have every field of the blocks between them, for tests of the reference: name -> spec."""

from copy import deepcopy
from functools import cache

import archcalc
from archcalc.spec.model import Model

D, HEADS, KV_HEADS, D_HEAD, D_FF, VOCABULARY, CONTEXT = 24, 6, 2, 6, 20, 31, 40  # no two alike, heads do not make up D

RMS = {"kind": "rmsnorm", "epsilon": 1e-5}
LAYERNORM = {"kind": "layernorm", "bias": True}
ROTARY = {"d_rotary": D_HEAD, "theta": 10_000}


def attention(**fields):
    sizes = {"kind": "multi_head", "n_heads": HEADS, "n_kv_heads": KV_HEADS, "d_head": D_HEAD}
    return {**sizes, "bias": False, "rotary": ROTARY, **fields}


def gated(**fields):
    return {"kind": "gated", "d_ff": D_FF, "activation": "silu", "bias": False, **fields}


def plain(**fields):
    return {"kind": "plain", "d_ff": D_FF, "activation": "gelu", "bias": True, **fields}


def layer(repeat=2, **fields):
    return {"repeat": repeat, "norm": RMS, "attention": attention(), "mlp": gated(), **fields}


def spec(*layers, **fields):
    found = {
        "schema": 0,
        "name": "variant",
        "source": "tests",
        "vocab_size": VOCABULARY,
        "context_length": CONTEXT,
        "d_model": D,
        "embedding": {"positions": "none"},
        "layers": list(layers) or [layer()],
        "final_norm": RMS,
        "unembedding": {"tied": False, "bias": False},
        "initialization": {"std": 0.2, "residual": "plain"},
    }
    return {**found, **fields}


def scaled(**scaling):
    """Rotary positions whose angles are changed for texts longer than 16."""
    lengths = {} if scaling["kind"] == "linear" else {"original_context_length": 16}
    return layer(attention=attention(rotary={**ROTARY, "scaling": {**lengths, **scaling}}))


def local_and_global():
    local = {"norm": RMS, "attention": attention(window=7), "mlp": gated()}
    wide = {"norm": RMS, "attention": attention(rotary=None), "mlp": gated(d_ff=28)}
    return {"repeat": 5, "pattern": ["local", "local", "wide"], "kinds": {"local": local, "wide": wide}}


def two_attentions():
    """Three branches, two of them attentions of different sizes, by the long form."""
    other = attention(n_heads=4, n_kv_heads=4, d_head=8, rotary=None, window=5)
    return {
        "repeat": 2,
        "branches": [
            {"name": "attention", "norm": RMS, "mixer": attention()},
            {"name": "train", "norm": LAYERNORM, "mixer": other, "post_norm": RMS, "scale": 0.5},
            {"name": "mlp", "norm": RMS, "mixer": plain(activation="gelu_tanh")},
        ],
    }


LEARNED = {"positions": "learned"}
GPT2 = layer(
    norm=LAYERNORM, attention=attention(bias=True, rotary=None, n_kv_heads=HEADS), mlp=plain(activation="gelu_tanh")
)
TIED = {"tied": True, "bias": False}

VARIANTS = {
    "gpt2": spec(GPT2, embedding=LEARNED, final_norm=LAYERNORM, unembedding=TIED),
    "llama": spec(),
    "multi-query": spec(layer(attention=attention(n_kv_heads=1))),
    "biases one by one": spec(
        layer(
            attention=attention(bias={"query": True, "key": False, "value": True, "output": False}),
            mlp=gated(bias={"gate": True, "up": False, "down": True}),
        )
    ),
    "neighbours, partial": spec(layer(attention=attention(rotary={**ROTARY, "d_rotary": 4, "pairing": "neighbours"}))),
    "linear": spec(scaled(kind="linear", factor=4.0)),
    "yarn": spec(scaled(kind="yarn", factor=4.0)),
    "llama3": spec(scaled(kind="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)),
    "alibi": spec(
        layer(attention=attention(rotary=None, alibi=True)), embedding={"positions": "none", "norm": LAYERNORM}
    ),
    "alibi and window": spec(layer(attention=attention(rotary=None, alibi=True, window=9))),
    "slopes times a number": spec(layer(attention=attention(rotary=None, alibi=True, alibi_scale=0.4))),
    "turned, then normed": spec(
        layer(
            attention=attention(
                qk_norm=RMS,
                qk_norm_place="after",
                query_growth={"rate": 0.5, "interval": 8},
                rotary={**ROTARY, "reversed": True},
            )
        )
    ),
    "q/k norm of heads": spec(layer(attention=attention(qk_norm=RMS))),
    "q/k norm by heads": spec(
        layer(attention=attention(qk_norm={"kind": "layernorm", "bias": False}, qk_norm_over="heads"))
    ),
    "q/k norm of width": spec(layer(attention=attention(qk_norm=RMS, qk_norm_over="width"))),
    "window": spec(layer(attention=attention(window=7))),
    "chunk": spec(layer(attention=attention(chunk=8))),
    "local and global": spec(local_and_global()),
    "gemma2": spec(
        layer(
            norm={**RMS, "unit_offset": True},
            post_norm={**RMS, "unit_offset": True},
            attention=attention(softcap=5.0, scale=0.3, window=11),
            mlp=gated(activation="gelu_tanh"),
        ),
        embedding={"positions": "none", "scale": "sqrt_d_model"},
        unembedding={"tied": True, "bias": False, "softcap": 3.0},
    ),
    "clip": spec(layer(norm={"kind": "layernorm", "bias": False, "gain": False}, attention=attention(clip=0.5))),
    "parallel, shared norm": spec(
        layer(norm=LAYERNORM, parallel="shared", mlp=plain()), unembedding={"tied": False, "bias": True}
    ),
    "parallel, norms of their own": spec(layer(norm=LAYERNORM, parallel="own", mlp=plain(activation="relu"))),
    "post norms alone": spec(layer(norm=None, post_norm=RMS)),
    "stream norms": spec(layer(norm=None, stream_norm=LAYERNORM), embedding=LEARNED, final_norm=None),
    "opt-350m": spec(
        layer(
            norm=None, stream_norm=LAYERNORM, attention=attention(rotary=None, bias=True), mlp=plain(activation="relu")
        ),
        embedding={"positions": "learned", "extra_positions": 2, "d_embedding": 10},
        final_norm=None,
        unembedding={"tied": True, "bias": False, "d_embedding": 10},
    ),
    "granite": spec(
        layer(scale=0.22, attention=attention(scale=0.4)),
        embedding={"positions": "none", "scale": 12.0},
        unembedding={"tied": True, "bias": False, "scale": 0.125},
    ),
    "nemotron": spec(
        layer(
            norm={"kind": "layernorm", "bias": True, "unit_offset": True},
            mlp=plain(activation="relu2", bias=False),
        )
    ),
    "logits of some tokens": spec(unembedding={"tied": False, "bias": True, "rows": 17}),
    "apertus": spec(layer(mlp=plain(activation="xielu", bias=False))),
    "quick": spec(layer(norm={**RMS, "gain": False}, mlp=plain(activation="gelu_quick"))),
    "three branches": spec(two_attentions()),
    "several groups": spec(layer(1), GPT2, layer(1, attention=attention(window=3), mlp=plain(d_ff=16))),
}


@cache
def variant(name: str, **changes) -> Model:
    """The model of that name, with some of its sizes changed."""
    return Model.model_validate({**deepcopy(VARIANTS[name]), **changes})


assert archcalc  # the package registers its blocks
