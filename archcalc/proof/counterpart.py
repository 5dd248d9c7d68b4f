"""The outside voice: transformers' model of the same architecture, with the weights of the reference lent to it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import ValidationError

from archcalc.errors import Invalid
from archcalc.packages import pip_install
from archcalc.spec.dumping import plain
from archcalc.spec.model import Model

if TYPE_CHECKING:
    from torch import Tensor


class Counterpart(NamedTuple):
    """A model that is not ours: which class of which version it is, and its logits for tokens, (B, S) to (B, S, V)."""

    name: str
    logits: Callable[[Tensor], Tensor]


class _Lent(NamedTuple):
    """A spec that a family can say, and what of the reference it then lacks: its positions, and the head's bias."""

    model: Model
    embedding: bool = False
    bias: bool = False


def counterpart(reference: Any) -> Counterpart | str:
    """The reference's architecture as transformers has it, with the same weights in the same type.

    It is the family whose config.json can say the spec. Where none can because no family has learned positions beside
    such layers, or a bias of the logits, a family that can say the rest is given the sum of token and position
    vectors, its own positions are turned off, and the bias is added. In place of a counterpart, a few words say why
    there is none.
    """
    try:
        import transformers
    except ModuleNotFoundError:
        return f"transformers is not installed; {pip_install('transformers')}"
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    transformers.logging.set_verbosity_error()
    said = _said(reference.spec)
    if isinstance(said, str):
        return said
    config, lent = said
    if config["model_type"] not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return f"transformers has {config['model_type']} as a part of other models alone"
    theirs = _built(transformers, config, reference, lent)
    name = f"{type(theirs).__name__} of transformers {transformers.__version__}"
    return Counterpart(name, lambda tokens: _logits(theirs, reference, lent, tokens))


def _said(model: Model) -> tuple[dict[str, Any], _Lent] | str:
    """The config.json of a family that can say a spec, or most of it; else why none can."""
    from archcalc.huggingface.exporting import export_config

    why = ""
    for lent in _ways(model):
        try:
            return export_config(plain(lent.model)), lent
        except Invalid as error:
            why = why or error.problems[0].message
    return why


def _ways(model: Model) -> Iterator[_Lent]:
    model = _in_their_chunks(model)
    yield _Lent(model)
    bias = model.unembedding.bias
    if model.unembedding.bias:
        model = model.model_copy(update={"unembedding": model.unembedding.model_copy(update={"bias": False})})
        yield _Lent(model, bias=bias)
    if turned := _turned(model):
        yield _Lent(turned, embedding=True, bias=bias)
    if (biased := _with_biases(model)) != model:  # a norm without a bias is one whose bias is 0
        yield _Lent(biased, bias=bias)
        if turned := _turned(biased):
            yield _Lent(turned, embedding=True, bias=bias)


def _with_biases(model: Model) -> Model:
    """A model all of whose norms have biases."""
    return _with(model, "layernorm", bias=True)


def _in_their_chunks(model: Model) -> Model:
    """A model whose delta nets work in the chunks of transformers, which change no number."""
    return _with(model, "gated_delta", chunk_size=64)


def _with(model: Model, kind: str, **fields: Any) -> Model:
    """A model with some fields of all blocks of a kind set."""

    def given(part: Any) -> Any:
        if isinstance(part, dict):
            found = {name: given(inner) for name, inner in part.items()}
            return {**found, **fields} if part.get("kind") == kind else found
        return [given(inner) for inner in part] if isinstance(part, list) else part

    return Model.model_validate(given(plain(model)))


def _turned(model: Model) -> Model | None:
    """A model with rotary positions in place of learned ones, for a family without those; None where it has some."""
    data = plain(model)
    if data["embedding"]["positions"] != "learned":
        return None
    data["embedding"] = {"positions": "none"}
    for group in data["layers"]:
        for layer in group.get("kinds", {"": group}).values():
            attention = layer.get("attention", {})
            if attention.get("rotary") or attention.get("alibi") or attention.get("d_head", 1) < 2:
                return None
            attention["rotary"] = {"d_rotary": attention["d_head"] // 2 * 2, "theta": 1e4}
    try:
        return Model.model_validate(data)
    except ValidationError:  # a tied table of other features than d_model
        return None


def _built(transformers: Any, config: dict[str, Any], reference: Any, lent: _Lent) -> Any:
    """Their model, with the reference's weights in their names and layout."""
    import torch

    import archcalc_reference
    from archcalc_reference.weights.families import BY_TYPE
    from archcalc_reference.weights.folder import stored

    dtype = next(reference.parameters()).dtype
    said = {name: value for name, value in config.items() if name not in ("model_type", "architectures", "dtype")}
    # Eager attention is plain to see; with ALiBi in Falcon it adds the slopes twice, to the scores and to the mask.
    attention = "sdpa" if config["model_type"] == "falcon" and config.get("alibi") else "eager"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # of an MLP of no shared experts
        theirs = _class(transformers, config)(
            transformers.AutoConfig.for_model(config["model_type"], **said),
            attn_implementation=attention,
            experts_implementation="eager",  # of the others some take no fp64
        )
    theirs.to(dtype).eval()
    for module in theirs.modules():
        if hasattr(module, "scalar_embed_scale"):
            module.embed_scale.fill_(module.scalar_embed_scale)  # the square root of d_model, rounded to fp32 before
    parameters = dict(reference.named_parameters())
    if lent.embedding:
        parameters.pop("embedding.position.weight")
    if lent.bias:
        parameters.pop("unembedding.bias")
    with torch.device("meta"):
        whole = archcalc_reference.Transformer(lent.model).named_parameters()
    parameters |= {name: torch.zeros(p.shape, dtype=dtype) for name, p in whole if name not in parameters}
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    # Others are corrections, at 0; what has no elements is an MLP of no shared experts.
    places = {name: p for name, p in theirs.named_parameters() if p.requires_grad and p.numel()}
    with torch.no_grad():
        family = BY_TYPE[config["model_type"]]
        for entry in family.entries(lent.model, shapes):
            place, own = places.pop(entry.name), stored(entry, parameters)
            (place[: len(own)] if family.spare and own.dim() else place).copy_(own)
    if places:
        raise RuntimeError(f"{type(theirs).__name__} has {next(iter(places))}, which the reference has not")
    if lent.embedding:
        theirs.base_model.rotary_emb = _unturned()
    return theirs


def _class(transformers: Any, config: dict[str, Any]) -> Any:
    """What builds their model: its class by name where it is a part of models that see, and no model of its own."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    alone = config["model_type"] in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    found = transformers.AutoModelForCausalLM if alone else getattr(transformers, config["architectures"][0])
    return found.from_config if alone else found._from_config  # noqa: SLF001  (it has no public one)


def _logits(theirs: Any, reference: Any, lent: _Lent, tokens: Tensor) -> Tensor:
    given = {"inputs_embeds": reference.embedding(tokens)} if lent.embedding else {"input_ids": tokens}
    with _double_where_float(theirs):
        logits = theirs(**given, use_cache=False).logits
    return cast("Tensor", logits + reference.unembedding.bias if lent.bias else logits)


@contextmanager
def _double_where_float(theirs: Any) -> Iterator[None]:
    """A block in which norms, softmax and all else of a model in fp64 stay in fp64, where transformers asks for fp32.

    Angles are worked out in fp32 as everywhere, with the reference's own roundings: they are a part of the model.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    angles: list[Any] = []

    class Double(TorchFunctionMode):  # type: ignore[misc]  # torch's own types are not read
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if function is torch.polar:  # DeepSeek-V2: its cosines are those of cos but for the last bit
                return torch.complex(args[0] * args[1].cos(), args[0] * args[1].sin())
            if angles:
                return function(*args, **kwargs)
            if getattr(function, "__name__", "") in ("float", "bfloat16") and args[0].is_floating_point():
                return args[0].double()  # bf16: Falcon's slopes of ALiBi
            if function is torch.full:  # XGLM: the least number of the type, in the type that is meant by none
                kwargs.setdefault("dtype", torch.float64)
            args = tuple(torch.float64 if value is torch.float32 else value for value in args)
            kwargs = {name: torch.float64 if value is torch.float32 else value for name, value in kwargs.items()}
            return function(*args, **kwargs)

    hooks = []
    for module in theirs.modules():
        if "rotary" in type(module).__name__.lower():
            hooks.append(module.register_forward_pre_hook(lambda *_: angles.append(True)))
            hooks.append(module.register_forward_hook(lambda *_: angles.clear()))
    try:
        if next(theirs.parameters()).dtype == torch.float64:
            with Double():
                yield
        else:
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _unturned() -> Any:
    """Rotary positions that turn nothing: cosine 1, sine 0."""
    import torch

    class Unturned(torch.nn.Module):  # type: ignore[misc]  # torch's own types are not read
        def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
            one = torch.ones(*position_ids.shape, 1, dtype=x.dtype)
            return one, torch.zeros_like(one)

    return Unturned()
