"""The main job: one screen that says what a model is and where its weights live."""

from __future__ import annotations

from archcalc.counts.quantities import one_pass, values
from archcalc.report.flops import flops_payload, training_line
from archcalc.report.memory import standing, standing_lines, standing_numbers
from archcalc.report.mtp import modules_line
from archcalc.report.parameters import (
    active_line,
    bridge_line,
    category_records,
    counts_payload,
    published_lines,
    tally_table,
)
from archcalc.report.sheet import Fields, Sheet, caveats, payload
from archcalc.spec.catalogue import Found
from archcalc.spec.layers import Layer
from archcalc.spec.model import Model
from archcalc.tape.passes import Layers
from archcalc.units import grouped, several, short


def report_sheet(found: Found) -> Sheet:
    """The shape, the tally, stored and printed counts, the work and memory of one context, what is assumed."""
    model, asked = found.model, one_pass(found.model)
    counts, work, held = asked.counts, asked.flops, standing(model)
    tallied, worked = counts_payload(found, asked), flops_payload(asked)
    return Sheet(
        title=f"{found.name}: {grouped(counts.stored)} parameters ({short(counts.stored)})",
        blocks=(
            Fields((("Shape", shape_lines(model)), ("Source", (model.source,)))),
            tally_table(counts, most=MOST_KINDS),
            Fields(
                (
                    ("Stored", (bridge_line(counts),)),
                    *active_line(counts),
                    *modules_line(model, asked),
                    *published_lines(model, counts),
                    ("FLOPs", (training_line(model, counts, work, asked),)),
                    *standing_lines(model, held, asked.held),
                    *caveats(found, assumed=True),
                )
            ),
        ),
        payload=payload(
            found.name,
            shape=model.model_dump(mode="json", include=set(SHAPE)),
            **standing_numbers(held),
            **values(asked, ("activations", "cache")),
            **{**tallied, **worked, "conventions": tallied["conventions"] | worked["conventions"]},
        ),
        records=tuple(category_records(counts)),
    )


MOST_KINDS = 4
SHAPE = ("vocab_size", "context_length", "d_model", "embedding", "layers", "final_norm", "unembedding", "mtp")


def shape_lines(model: Model) -> tuple[str, ...]:
    """A model's shape in words: a line for each kind of layer (the first few of many), then the rest."""
    kinds: dict[str, tuple[Layer, int]] = {}
    for group in model.layers:
        for kind in group.kinds_in():
            _, before = kinds.get(words := kind.layer.summary(), (None, 0))
            count = Layers(0, group.repeat, group.period, kind.offsets).count
            kinds[words] = kind.layer, before + count
    lines, above = [], None
    for layer, n in kinds.values():
        lines.append(f"{several(n, 'layer')}: {layer.summary(above)}")
        above = layer
    if len(lines) > MOST_KINDS:
        lines[MOST_KINDS - 1 :] = [f"and {several(len(lines) - MOST_KINDS + 1, 'more kind')} of layer"]
    sizes = (
        f"d_model {grouped(model.d_model)}",
        f"vocabulary {grouped(model.vocab_size)}",
        f"context {grouped(model.context_length)}",
        model.embedding.summary(),
        f"final {model.final_norm.summary()}" if model.final_norm else "no final norm",
        model.unembedding.summary(),
    )
    return (*lines, ", ".join(sizes))
