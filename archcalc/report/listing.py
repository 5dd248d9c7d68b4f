"""What archcalc knows by name: the models of the catalogue, and the devices."""

from __future__ import annotations

from archcalc.counts.parameters import params
from archcalc.hardware.devices import Device
from archcalc.report.sheet import Fields, Sheet, Table, figures, words
from archcalc.spec.model import SCHEMA, Model
from archcalc.units import binary, short


def models_sheet(models: list[Model]) -> Sheet:
    """A row for each model, family by family, the smaller first."""
    counted = sorted(((params(model).stored, model) for model in models), key=lambda row: (_family(row[1]), row[0]))
    records = tuple(
        {
            "name": model.name,
            "parameters": stored,
            "layers": model.n_layers,
            "d_model": model.d_model,
            "vocab_size": model.vocab_size,
            "context_length": model.context_length,
            "source": model.source,
        }
        for stored, model in counted
    )
    rows = tuple(
        (r["name"], r["parameters"], short(stored), r["layers"], r["d_model"], r["vocab_size"], r["context_length"])
        for r, (stored, _) in zip(records, counted, strict=True)
    )
    heads = ("parameters", "", "layers", "d_model", "vocabulary", "context")
    return Sheet(
        title=f"{len(models)} models",
        blocks=(Table((*words("name"), *figures(*heads)), rows),),
        payload={"schema": SCHEMA, "specs": list(records)},
        records=records,
    )


def _family(model: Model) -> str:
    return model.name.split("-")[0]


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
