"""The main job: one screen that says what a model is and where its weights live."""

from __future__ import annotations

from archcalc.catalogue import Found
from archcalc.count import params
from archcalc.report.params import bridge_line, category_records, counts_payload, printed, tally_table
from archcalc.report.sheet import Fields, Sheet, caveats, payload
from archcalc.spec import Model
from archcalc.units import grouped, short


def report_sheet(found: Found) -> Sheet:
    """The shape, the tally, stored and printed counts, what is assumed."""
    model, counts = found.model, params(found.model)
    stored = (bridge_line(counts),)
    return Sheet(
        title=f"{model.name}: {grouped(counts.stored)} parameters ({short(counts.stored)})",
        blocks=(
            Fields((("Shape", shape_lines(model)), ("Source", (model.source,)))),
            tally_table(counts),
            Fields((("Stored", stored), *printed(model, counts), *caveats(found))),
        ),
        payload=payload(
            model.name, shape=model.model_dump(mode="json", include=_SHAPE), **counts_payload(found, counts)
        ),
        records=tuple(category_records(counts)),
    )


_SHAPE = {"vocab_size", "context_length", "d_model", "embedding", "layers", "final_norm", "unembedding"}


def shape_lines(model: Model) -> tuple[str, ...]:
    """A model's shape in words, a line for each group of layers."""
    return (
        *(
            f"{grouped(group.repeat)} layers of {group.attention.summary()}, {group.mlp.summary()}"
            for group in model.layers
        ),
        ", ".join(
            (
                f"d_model {grouped(model.d_model)}",
                f"vocabulary {grouped(model.vocab_size)}",
                f"context {grouped(model.context_length)}",
                f"{model.embedding.positions} positions",
                "unembedding tied" if model.unembedding.tied else "unembedding not tied",
            )
        ),
    )
