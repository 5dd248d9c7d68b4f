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
