"""The catalogue at a glance."""

from __future__ import annotations

from archcalc.count import params
from archcalc.report.sheet import Sheet, Table, figures, words
from archcalc.spec import SCHEMA, Model
from archcalc.units import short


def listing_sheet(models: list[Model]) -> Sheet:
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
        title=f"{len(models)} specs",
        blocks=(Table((*words("name"), *figures(*heads)), rows),),
        payload={"schema": SCHEMA, "specs": list(records)},
        records=records,
    )


def _family(model: Model) -> str:
    return model.name.split("-")[0]
