"""The outside voice: transformers' model of the same architecture, with the weights of the reference lent to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from archcalc.packages import pip_install
from archcalc.spec.model import Model

if TYPE_CHECKING:
    from torch import Tensor

ACTIVATIONS = {"gelu_tanh": "gelu_pytorch_tanh", "gelu": "gelu"}  # transformers' names


class Counterpart(NamedTuple):
    """A model that is not ours: which class of which version it is, and its logits for tokens, (B, S) to (B, S, V)."""

    name: str
    logits: Callable[[Tensor], Tensor]


def counterpart(reference: Any) -> Counterpart | str:
    """The reference's architecture as transformers has it, with the same weights in the same type.

    GPT2LMHeadModel where that can be the model. Starcoder2ForCausalLM otherwise: it has key/value heads that are
    fewer than heads, LayerNorm and a plain MLP; its rotary positions are turned off, and it is given the sum of token
    and position vectors. In place of one, a few words say why there is none.
    """
    try:
        import transformers
    except ModuleNotFoundError:
        return f"transformers is not installed; {pip_install('transformers')}"
    from archcalc_reference.weights.layouts import why_no_gpt2

    model: Model = reference.spec
    odd = _unknown(model)
    if odd:
        return f"none of transformers' models is known here to have {odd}"
    transformers.logging.set_verbosity_error()
    build = _gpt2 if why_no_gpt2(model) is None else _starcoder2
    theirs, logits = build(transformers, reference)
    theirs.to(next(reference.parameters()).dtype).eval()
    return Counterpart(f"{type(theirs).__name__} of transformers {transformers.__version__}", logits)


def _unknown(model: Model) -> str | None:
    """A kind of block that neither model has."""
    for group in model.layers:
        for slot, block, known in (
            ("norm", group.norm, "layernorm"),
            ("attention", group.attention, "multi_head"),
            ("mlp", group.mlp, "plain"),
        ):
            if cast("Any", block).kind != known:
                return f"{slot} {cast('Any', block).kind}"
    return None


def _gpt2(transformers: Any, reference: Any) -> tuple[Any, Callable[[Tensor], Tensor]]:
    import torch

    model, group = reference.spec, reference.spec.layers[0]
    config = transformers.GPT2Config(
        vocab_size=model.vocab_size,
        n_positions=model.context_length,
        n_embd=model.d_model,
        n_layer=model.n_layers,
        n_head=group.attention.n_heads,
        n_inner=group.mlp.d_ff,
        activation_function=ACTIVATIONS[group.mlp.activation],
        layer_norm_epsilon=group.norm.epsilon,
        tie_word_embeddings=model.unembedding.tied,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation="eager",
    )
    theirs = transformers.GPT2LMHeadModel(config).to(next(reference.parameters()).dtype)
    inner = theirs.transformer
    _lend(inner.wte, reference.embedding.token)
    _lend(inner.wpe, reference.embedding.position)
    for block, layer in zip(inner.h, reference.layers, strict=True):
        query, key, value = layer.attention.query, layer.attention.key, layer.attention.value
        _lend(block.ln_1, layer.attention_norm)
        _set(block.attn.c_attn.weight, torch.cat([part.weight.t() for part in (query, key, value)], dim=1))
        _set(block.attn.c_attn.bias, torch.cat([part.bias for part in (query, key, value)]))
        _lend(block.attn.c_proj, layer.attention.output, transposed=True)
        _lend(block.ln_2, layer.mlp_norm)
        _lend(block.mlp.c_fc, layer.mlp.up, transposed=True)
        _lend(block.mlp.c_proj, layer.mlp.down, transposed=True)
    _lend(inner.ln_f, reference.final_norm)
    if not model.unembedding.tied:
        _lend(theirs.lm_head, reference.unembedding)
    return theirs, lambda tokens: cast("Tensor", theirs(tokens).logits)


def _starcoder2(transformers: Any, reference: Any) -> tuple[Any, Callable[[Tensor], Tensor]]:
    import torch

    model = reference.spec
    theirs = transformers.Starcoder2ForCausalLM(_starcoder2_config(transformers, model, model.layers[0]))
    inner, one_layer = theirs.model, type(theirs.model.layers[0])
    groups = [group for group in model.layers for _ in range(group.repeat)]
    inner.layers = torch.nn.ModuleList(
        one_layer(_starcoder2_config(transformers, model, group), i) for i, group in enumerate(groups)
    )
    inner.norm.eps = model.final_norm.epsilon
    inner.rotary_emb = _Unturned()
    theirs.lm_head = torch.nn.Linear(model.d_model, model.vocab_size)
    theirs.to(next(reference.parameters()).dtype)
    token, position = (table.weight for table in (reference.embedding.token, reference.embedding.position))
    for block, layer in zip(inner.layers, reference.layers, strict=True):
        _lend(block.input_layernorm, layer.attention_norm)
        for ours, name in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("output", "o_proj")):
            _lend(getattr(block.self_attn, name), getattr(layer.attention, ours))
        _lend(block.post_attention_layernorm, layer.mlp_norm)
        _lend(block.mlp.c_fc, layer.mlp.up)
        _lend(block.mlp.c_proj, layer.mlp.down)
    _lend(inner.norm, reference.final_norm)
    _set(
        theirs.lm_head.weight,
        reference.embedding.token.weight if model.unembedding.tied else reference.unembedding.weight,
    )
    _set(theirs.lm_head.bias, reference.unembedding.bias)

    def logits(tokens: Tensor) -> Tensor:
        vectors = token[tokens] + position[: tokens.shape[1]]
        return cast("Tensor", theirs(inputs_embeds=vectors, use_cache=False).logits)

    return theirs, logits


def _starcoder2_config(transformers: Any, model: Any, group: Any) -> Any:
    config = transformers.Starcoder2Config(
        vocab_size=model.vocab_size,
        max_position_embeddings=model.context_length,
        hidden_size=model.d_model,
        num_hidden_layers=model.n_layers,
        num_attention_heads=group.attention.n_heads,
        num_key_value_heads=group.attention.n_kv_heads,
        intermediate_size=group.mlp.d_ff,
        hidden_act=ACTIVATIONS[group.mlp.activation],
        norm_epsilon=group.norm.epsilon,
        use_bias=True,  # where the reference has none, zeros are lent
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation="sdpa",  # eager attention rounds its softmax to fp32
    )
    config.head_dim = group.attention.d_head
    return config


def _Unturned() -> Any:  # noqa: N802  (a class, made where PyTorch is there)
    """Rotary positions that turn nothing: cosine 1, sine 0."""
    import torch

    class Unturned(torch.nn.Module):  # type: ignore[misc]  # torch's own types are not read
        def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
            one = torch.ones(*position_ids.shape, 1, dtype=x.dtype)
            return one, torch.zeros_like(one)

    return Unturned()


def _lend(theirs: Any, ours: Any, *, transposed: bool = False) -> None:
    _set(theirs.weight, ours.weight.t() if transposed else ours.weight)
    if getattr(theirs, "bias", None) is not None:
        _set(theirs.bias, ours.bias)


def _set(theirs: Any, ours: Any) -> None:
    """Copy a weight; zeros where the reference has none."""
    import torch

    with torch.no_grad():
        theirs.zero_() if ours is None else theirs.copy_(ours)
