"""The outside voices: what transformers and tokenizers make, for tests to hold ours against."""

import pytest


def byte_level(texts, vocab_size, *specials, pattern=None, **settings):
    """A byte-level BPE tokenizer of GPT-2's kind, trained here; `pattern` parts words otherwise than GPT-2's does."""
    tokenizers = pytest.importorskip("tokenizers", reason="the extra `run`")
    fast = tokenizers.Tokenizer(tokenizers.models.BPE())
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    fast.pre_tokenizer = level
    if pattern is not None:
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
        fast.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, level])
    fast.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=list(specials),
        show_progress=False,
        **settings,
    )
    fast.train_from_iterator(texts, trainer)
    return fast


def gpt2_config(model, **settings):
    """The shape of a spec in transformers' words."""
    transformers = pytest.importorskip("transformers", reason="the outside voice")
    layer = model.layers[0]
    assert layer.attention.n_heads * layer.attention.d_head == model.d_model
    return transformers.GPT2Config(
        vocab_size=model.vocab_size,
        n_positions=model.context_length,
        n_embd=model.d_model,
        n_layer=model.n_layers,
        n_head=layer.attention.n_heads,
        n_inner=layer.mlp.d_ff,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
        **settings,
    )


TINY_GPT2 = "gpt2@vocab_size=256,context_length=64,d_model=32,n_layers=3,n_heads=4,d_head=8,d_ff=64"


def tiny_gpt2(folder):
    """A random GPT-2 over bytes, of the shape of TINY_GPT2, as transformers writes it to a folder."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(3)
    config = transformers.GPT2Config(
        vocab_size=256, n_positions=64, n_embd=32, n_layer=3, n_head=4, n_inner=64, initializer_range=0.3
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(folder)
    return model, str(folder)
