"""What layers read that was made before them, or have in common: keys and values of another layer, vectors of a token
for each, and blocks that several share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from archcalc.blocks.attention import MultiHead
from archcalc.blocks.base import Mixer
from archcalc.blocks.perlayer import PerLayer
from archcalc.spec.shared import SharedBlock
from archcalc.tape.legend import Mask, Size

if TYPE_CHECKING:
    from archcalc.spec.groups import LayerGroup
    from archcalc.spec.layers import Layer


def shares_keys(groups: Sequence[LayerGroup]) -> bool:
    """Whether an attention reads keys and values that another made."""
    return any(isinstance(mixer, MultiHead) and mixer.shared_kv for layer in _first_layers(groups) for mixer in layer)


def shares_few(groups: Sequence[LayerGroup]) -> bool:
    """Whether such an attention sees a window, or chunks, of what the other made."""
    mixers = [mixer for layer in _first_layers(groups) for mixer in layer if isinstance(mixer, MultiHead)]
    return any(mixer.shared_kv and (mixer.window or mixer.chunk) for mixer in mixers)


def refuse_no_source(groups: Sequence[LayerGroup]) -> None:
    """Raise an error that pydantic tells where an attention reads keys and values that no layer before it makes."""
    if any(_without_source(groups)):
        what = "has an attention with shared_kv, and none before it makes such keys and values: as many heads of "
        what += "as many features, with the same window or chunks"
        raise PydanticCustomError("one_of", what)


def _without_source(groups: Sequence[LayerGroup]) -> Iterator[Mask]:
    """For each attention that shares keys and values whether none before it makes such; of arrays in each row."""
    made: list[tuple[Size, ...]] = []
    for mixer in (mixer for layer in _first_layers(groups) for mixer in layer if isinstance(mixer, MultiHead)):
        if not mixer.shared_kv:
            made.append(mixer.sharing)
            continue
        fits: Mask = False
        for other in made:
            same: Mask = True
            for here, there in zip(mixer.sharing, other, strict=True):
                same = same & (here == there)
            fits = fits | same
        yield fits ^ True


def refuse_no_vectors(groups: Sequence[LayerGroup], d_per_layer: int | None) -> None:
    """Raise an error where layers read other vectors of a token than the embedding makes, one for each layer."""
    for layer in _first_layers(groups):
        read = [mixer.d_per_layer for mixer in layer if isinstance(mixer, PerLayer)]
        if len(read) == 1 and d_per_layer not in (None, *read):
            context = {
                "read": f"{read[0]:,}",
                "field": "embedding.per_layer.d_per_layer",
                "fix": "give all of them one number",
            }
            raise PydanticCustomError(
                "constraint", "must be {read}, as the layers' mixers of kind per_layer have it", context
            )
        if read != ([] if d_per_layer is None else [d_per_layer]):
            what = "must each have one mixer of kind per_layer, of as many features as per_layer of the embedding"
            if d_per_layer is None:
                what = "have a mixer of kind per_layer, and the embedding has no per_layer"
            raise PydanticCustomError("one_of", what)


def reads_other_layers(layer: Layer) -> bool:
    """Whether a layer reads keys, values or vectors of a token that were made outside it, or weights of others."""
    if _blocks(layer):
        return True
    mixers = [branch.mixer for branch in layer.residual_branches]
    return any(isinstance(one, PerLayer) or (isinstance(one, MultiHead) and one.shared_kv) for one in mixers)


def shared_blocks(groups: Sequence[LayerGroup]) -> dict[str, SharedBlock]:
    """The blocks that layers share, by name, each as its first use has it; a kind without layers uses none."""
    kinds = (kind for group in groups for kind in group.kinds_in() if kind.offsets[0] < group.repeat)
    return _by_name(kind.layer for kind in kinds)


def _by_name(layers: Iterable[Layer]) -> dict[str, SharedBlock]:
    found: dict[str, SharedBlock] = {}
    for block in (block for layer in layers for block in _blocks(layer)):
        found.setdefault(block.block, block)
    return found


def refuse_unlike_uses(groups: Sequence[LayerGroup]) -> None:
    """Raise an error that pydantic tells where two uses of a shared block describe other weights."""
    for name, wrong in _unlike_uses(groups):
        if wrong is True:
            what = "has uses of the shared block {name} that differ in more than their adapters"
            raise PydanticCustomError("one_of", what, {"name": name})


def _unlike_uses(groups: Sequence[LayerGroup]) -> Iterator[tuple[str, Mask]]:
    """For each further use of a shared block whether it differs from the first; of arrays in each row."""
    first = _by_name(_each_kind(groups))
    for layer in _each_kind(groups):
        for block in _blocks(layer):
            differ: Mask = False
            for name in _IN_COMMON:
                differ = differ | _differ(getattr(block, name), getattr(first[block.block], name))
            yield block.block, differ


_IN_COMMON = ("norm", "attention", "mlp_norm", "mlp")


def _differ(one: Any, other: Any) -> Mask:
    """Whether two parts differ in a field, however deep; where sizes are arrays, in which rows."""
    if one is other:
        return False
    if not (isinstance(one, BaseModel) and type(one) is type(other)):
        differ: Mask = one != other
        return differ
    found: Mask = False
    for name, value in one:
        found = found | _differ(value, getattr(other, name))
    return found


def _blocks(layer: Layer) -> list[SharedBlock]:
    """The shared blocks that a layer uses."""
    return [branch.added for branch in layer.residual_branches if branch.added is not None]


def _each_kind(groups: Sequence[LayerGroup]) -> Iterator[Layer]:
    """The layers of each kind, in order."""
    return (kind.layer for group in groups for kind in group.kinds_in())


def parted(groups: Sequence[LayerGroup], d_per_layer: Size | None) -> Iterator[tuple[str, Mask]]:
    """The same of sizes that are arrays: what is wrong, and in which rows."""
    for wrong in _without_source(groups):
        yield "an attention shares keys and values that none before it makes", wrong
    for name, wrong in _unlike_uses(groups):
        yield f"uses of the shared block {name} differ in more than their adapters", wrong
    what = "layers read vectors of another d_per_layer than the embedding makes"
    for mixer in (mixer for layer in _first_layers(groups) for mixer in layer if isinstance(mixer, PerLayer)):
        yield what, mixer.d_per_layer != d_per_layer


def _first_layers(groups: Sequence[LayerGroup]) -> Iterator[list[Mixer]]:
    """The mixers of each layer, in order, of each group until its kinds repeat."""
    for group in groups:
        at = {offset: kind.layer for kind in group.kinds_in() for offset in kind.offsets}
        many = hasattr(group.repeat, "dtype")
        for offset in range(group.period if many else min(group.period, group.repeat)):
            yield [branch.mixer for branch in at[offset].residual_branches]
