"""What reads a model knows no block by name: every sheet can be made of any valid model, and says its counts."""

from examples import few
from hypothesis import given, settings

from archcalc import Run, dump, flops, memory, params, strategies
from archcalc.counts.quantities import one_pass
from archcalc.report.diff import difference_sheet
from archcalc.report.explain import explainable, explanation_sheet
from archcalc.report.flops import flops_sheet
from archcalc.report.memory import memory_sheet
from archcalc.report.overview import report_sheet
from archcalc.report.parameters import params_sheet
from archcalc.report.render import rendered
from archcalc.report.trace import trace_sheet
from archcalc.shapes.grid import sweep
from archcalc.spec.catalogue import Found, find
from archcalc.spec.model import Model
from archcalc.spec.source import parse
from archcalc.spec.validation import validate
from archcalc.tape.precision import Keeping


def found_of(model):
    document = parse(dump(model).encode(), "drawn.yaml")
    return Found(validate(document, Model), document, document, {})


@settings(max_examples=few(3, prove=60))
@given(strategies.models(most_groups=2))
def test_every_sheet_can_be_made_of_every_model(model):
    found, run = found_of(model), Run(sequence=model.context_length)
    used = memory(model, run)
    sheets = [
        report_sheet(found),
        *(params_sheet(found, by) for by in ("category", "layer", "tensor")),
        flops_sheet(found, run, None),
        memory_sheet(found, run, Keeping(), used, None),
        trace_sheet(found, run.by_default("math")),
        difference_sheet([find("tiny"), found], [one_pass(one, 1, 1) for one in (find("tiny").model, model)]),
    ]
    for sheet in sheets:
        for form in ("table", "markdown", "json", "csv"):
            assert "".join(rendered(sheet, form, 80))


@settings(max_examples=few(2, prove=40))
@given(strategies.models(most_groups=2))
def test_every_number_of_every_model_has_a_formula_that_comes_to_it(model):
    found, asked = found_of(model), one_pass(model)
    numbers = explainable(found, asked)
    counts, work = params(model), flops(model, asked.work)
    assert numbers["parameters.stored"].value == counts.stored
    assert numbers["flops.forward"].value == work.forward
    assert numbers["flops.backward"].value == work.backward
    assert numbers["memory.total"].value == memory(model, asked.held, asked.keeping).total
    assert numbers["cache.total"].value == asked.cache(1, model.context_length)
    for path in ("parameters.stored", "flops.training", "memory.total", "cache.total"):
        sheet = explanation_sheet(found, path, asked)
        assert sheet.payload["value"] == numbers[path].value
        for letter in sheet.payload["letters"]:
            assert letter["fields"] or letter["letter"] in ("B", "S", "T"), letter


@settings(max_examples=few(3, prove=60))
@given(strategies.models(most_groups=1))
def test_a_sweep_over_layers_is_what_each_number_of_layers_counts(model):
    columns = ["parameters.stored", "flops.training", "activations.saved", "cache.total", "memory.total"]
    grid = sweep(model, {"n_layers": [1, 2, 3, 5]}, columns=columns, seq=model.context_length)
    rows = list(grid.rows())
    assert [row[0] for row in rows] == [1, 2, 3, 5]
    for row in rows:
        one = model.model_copy(update={"layers": (model.layers[0].model_copy(update={"repeat": row[0]}),)})
        asked = one_pass(one)
        expected = (
            params(one).stored,
            asked.flops.training,
            asked.saved,
            asked.cache(1, one.context_length),
            asked.peak,
        )
        assert row[1:] == expected
