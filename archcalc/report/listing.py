"""What archcalc knows by name: the models of the catalogue, and the devices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from archcalc.counts.parameters import params
from archcalc.hardware.devices import Device
from archcalc.report.sheet import Cell, Fields, Sheet, Table, figures, words
from archcalc.spec.model import SCHEMA, Model
from archcalc.spec.searching import family, features
from archcalc.tape.run import Run
from archcalc.units import binary, several

MANY = 20  # rows; more are easier to read family by family
_SHOWN = ("name", "parameters", "layers", "d_model", "vocab_size", "context_length")


def in_range(models: list[Model], least: int | None, most: int | None) -> list[Model]:
    """The models of so many stored parameters."""
    return [one for one in models if (least or 0) <= _stored(one) and (most is None or _stored(one) <= most)]


def models_sheet(models: list[Model], asked: Sequence[str] = ()) -> Sheet:
    """A row for each model, version by version of each family, the smaller first; `asked` are the words that match."""
    records = tuple(
        sorted(map(_record, models), key=lambda one: (one["family"], _version(one["name"]), one["parameters"]))
    )
    rows: list[tuple[Cell, ...]] = []
    for _, group in groupby(records, key=lambda record: record["family"]):
        if rows and len(records) > MANY:
            rows.append((None,) * len(_SHOWN))
        rows += [tuple(record[name] for name in _SHOWN) for record in group]
    note = (
        "archcalc list llama 8b: both words in name, family or source",
        "archcalc list --family qwen --most 10B --feature window: by family, size, feature",
    )
    return Sheet(
        title=several(len(models), "model") + f" matching {' '.join(asked)}" * bool(asked),
        blocks=(
            Table((*words("name"), *figures("parameters", "layers", "d_model", "vocabulary", "context")), tuple(rows)),
            *([] if asked else [Fields((("Search", note),))]),
        ),
        payload={"schema": SCHEMA, "specs": [{**one, "features": one["features"].split()} for one in records]},
        records=records,
    )


def _version(name: str) -> str:
    """A family and its version, without the size: llama3.1 of llama3.1-8b."""
    return name.partition("-")[0]


def _stored(model: Model) -> int:
    """Stored parameters, which any pass has; that of one token is recorded soonest."""
    found: int = params(model.record(Run("decode", context=1, attention="flash"))).stored
    return found


def _record(model: Model) -> dict[str, Any]:
    """What JSON and CSV say of a model; a size that differs from layer to layer is None."""
    layers = [kind.layer for group in model.layers for kind in group.kinds_in()]
    mixers = [mixer for layer in layers for branch in layer.residual_branches for mixer in branch.mixers]

    def size(name: str) -> int | None:
        found = {getattr(mixer, name) for mixer in mixers if hasattr(mixer, name)}
        return found.pop() if len(found) == 1 else None

    return {
        "name": model.name,
        "family": family(model.name),
        "parameters": _stored(model),
        "layers": model.n_layers,
        "d_model": model.d_model,
        **{name: size(name) for name in ("n_heads", "n_kv_heads", "d_head", "d_ff")},
        "vocab_size": model.vocab_size,
        "context_length": model.context_length,
        "tied": getattr(model.unembedding, "tied", None),
        "features": " ".join(features(model)),
        "source": model.source,
    }


def formats_sheet() -> Sheet:
    """A row for each format of weights with scales: what is packed, what stays wide, and the source."""
    from textwrap import wrap

    from archcalc.counts.formats import MEANINGS

    rows: list[tuple[Cell, ...]] = []
    for name, (what, source) in MEANINGS.items():
        first, *more = (*wrap(what, _MEANING), *wrap(source, _MEANING))
        rows += [(name, first), *((None, line) for line in more)]
    said = ("archcalc memory SPEC --for inference --precision q4_k_m takes one",)
    records = tuple({"name": name, "meaning": what, "source": source} for name, (what, source) in MEANINGS.items())
    return Sheet(
        title=f"{len(MEANINGS)} formats of weights with scales",
        blocks=(
            Table(words("name", "what is packed, what stays wide, and the source"), tuple(rows)),
            Fields((("Use", said),)),
        ),
        payload={"schema": SCHEMA, "formats": list(records)},
        records=records,
    )


_MEANING = 66  # characters of a line


def devices_sheet(devices: list[Device]) -> Sheet:
    """A row for each device, as its file has it: what no source tells is a dash."""
    records = tuple(
        {
            "name": device.name,
            "aliases": " ".join(device.aliases),
            "memory": device.label_bytes,
            "visible": device.visible_bytes,
            "bandwidth": device.bandwidth_bytes,
            "bf16": device.peak("bf16"),
            "sources": "; ".join(f"{what}: {source}" for what, source in _sources(device).items()),
        }
        for device in devices
    )
    rows = tuple(
        (
            device.name,
            device.capacity.label,
            "-" if device.visible_bytes is None else binary(device.visible_bytes),
            device.bandwidth,
            (device.dense_peak and device.dense_peak.bf16) or "-",
        )
        for device in devices
    )
    said = (
        "memory: the maker's label; visible: what programs see, as measured",
        "bf16: peak rate of dense matrix products",
        "--format json has aliases and the source of each figure",
    )
    return Sheet(
        title=f"{len(devices)} devices",
        blocks=(
            Table((*words("name"), *figures("memory", "visible", "bandwidth", "bf16")), rows),
            Fields((("Columns", said),)),
        ),
        payload={
            "schema": SCHEMA,
            "devices": [
                {**record, "aliases": list(device.aliases), "title": device.title, "sources": _sources(device)}
                for record, device in zip(records, devices, strict=True)
            ],
        },
        records=records,
    )


def _sources(device: Device) -> dict[str, str]:
    """Where each figure was read."""
    return {what: source for what, source in device.sources if source is not None}
