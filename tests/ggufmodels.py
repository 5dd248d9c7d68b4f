"""Small models of transformers with wide weights, their logits and ours, for files that are made of them."""

import pytest

V, S = 160, 64
BASE = {"vocab_size": V, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
LLAMA = {
    **BASE,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": S,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
TOKENS = (3, 7, 1, 150, 9, 9, 27, 64, 100, 2)


def made_of(config):
    """A small model of transformers, whose weights are wide so that every part has its say in the logits."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(5)
    config = transformers.AutoConfig.for_model(**config)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.3 if parameter.ndim == 1 else 0.15))
    return model


def logits(model, ids=TOKENS):
    """What transformers' model says of some tokens."""
    import torch

    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def ours(path, ids=TOKENS):
    """What the reference says of them with the weights of a file, which is its spec too."""
    import torch

    import archcalc
    from archcalc_reference.weights.folder import load_weights

    with torch.no_grad():
        return load_weights(archcalc.load(path), str(path)).eval()(torch.tensor([ids]))[0][0]
