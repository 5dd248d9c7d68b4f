"""Every number has a formula, and the formula comes to the number."""

import json
import re

import pytest
from command import ask
from examples import few, keepings, one_of_each
from formulas import evaluate
from hypothesis import given, settings
from hypothesis import strategies as st

import archcalc
from archcalc import strategies
from archcalc.counts.lettered import lettered, lettered_run
from archcalc.counts.quantities import Asked, one_pass
from archcalc.report.explain import explainable, explanation_sheet
from archcalc.spec.catalogue import find
from archcalc.spec.dumping import plain
from archcalc.tape.formula import Formula
from archcalc.tape.precision import Keeping


def printed_numbers(*sheets):
    """Every integer in the JSON of some commands, by its path with rows by name."""
    found = {}

    def walk(part, path):
        if isinstance(part, dict):
            for key, inner in part.items():
                walk(inner, f"{path}.{key}" if path else key)
        elif isinstance(part, list):
            for index, row in enumerate(part):
                walk(row, f"{path}.{index}")
        elif isinstance(part, int) and not isinstance(part, bool):
            found[path] = part

    for sheet in sheets:
        for section in (
            "parameters",
            "matrices",
            "activations",
            "cache",
            "tally",
            "bridge",
            "flops",
            "memory",
            "inference",
            "devices",
            "run",
            "layers",
            "tensors",
        ):
            if section in sheet.payload:
                walk(sheet.payload[section], section)
    return found


def all_sheets(found, asked, tokens):
    from archcalc.counts.memory import memory
    from archcalc.report.flops import flops_sheet
    from archcalc.report.memory import memory_sheet
    from archcalc.report.overview import report_sheet
    from archcalc.report.parameters import params_sheet

    used = memory(found.model, asked.held, asked.keeping)
    report = report_sheet(found)
    whole = {
        name: report.payload[name] for name in ("parameters", "matrices", "tally", "bridge", "inference", "devices")
    }
    return (
        report._replace(payload=whole),  # its FLOPs and memory are those of a whole context, asked for as such
        params_sheet(found, "layer"),
        params_sheet(found, "tensor"),
        flops_sheet(found, asked.work, tokens),
        memory_sheet(found, asked.held, asked.keeping, used, None),
    )


@st.composite
def questions(draw, model):
    sequence = draw(st.integers(1, model.context_length))
    attention = draw(st.sampled_from(["math", "flash"]))
    phase = draw(st.sampled_from(["training", "prefill", "decode"]))
    batch = draw(st.integers(1, 9))
    work = archcalc.Run(
        phase,
        batch,
        1 if phase == "decode" else sequence,
        sequence if phase == "decode" else None,
        attention=attention,
        causal=draw(st.sampled_from(["full"] if phase == "decode" else ["full", "half", "exact"])),
    )
    trains = draw(st.booleans())
    keeping = draw(keepings()) if trains else Keeping(draw(st.sampled_from(["fp32", "bf16", "int8", "int4"])))
    held = archcalc.Run(
        "training" if trains else "prefill",
        batch,
        sequence,
        attention=attention,
        dropout=trains and draw(st.booleans()),
        logits="all" if trains else "last",
        activation=draw(st.sampled_from(["fused", "eager"])),
    )
    tokens = draw(st.integers(1, 10**12)) if phase == "training" else None
    return Asked(model, work, held, keeping), tokens


@settings(max_examples=few(3, prove=50))  # some three hundred formulas each
@given(data=st.data())
def test_every_formula_comes_to_the_number_that_its_command_prints(data, tmp_path_factory):
    model = data.draw(strategies.models())
    path = tmp_path_factory.mktemp("explain") / "drawn.yaml"
    path.write_text(archcalc.dump(model))
    found = find(str(path))
    asked, tokens = data.draw(questions(model))
    formulas = explainable(found, asked, tokens)
    printed = printed_numbers(*all_sheets(found, asked, tokens))
    shapes = {path for path in printed if ".shape." in path or path.endswith("first_layer")}  # not counts
    assert printed
    for path, number in printed.items():
        if path in shapes:
            continue
        formula = formulas[path]
        assert formula.value == number, path
        values = {letter.name: letter.value for letter in formula.letters}
        assert evaluate(str(formula), values) == number, (path, str(formula))
        assert sum(term.value for term in formula.by_size()) == number


def test_the_formulas_are_those_of_the_textbook():
    found = find("gpt2")
    whole = archcalc.Run(sequence=1024, attention="math")
    numbers = explainable(found, Asked(found.model, whole, whole._replace(attention="flash"), Keeping()), 10**9)
    assert str(numbers["tally.categories.up_projection.parameters"]) == "L D F"
    assert str(numbers["flops.categories.scores.forward"]) == "2 L B S^2 G R K"
    assert str(numbers["flops.categories.unembedding.forward"]) == "2 B S D V"
    assert str(numbers["bridge.positions.parameters"]) == "D P"
    assert str(numbers["memory.terms.temporaries.bytes"]) == "8 B S V"  # two gradients of fp32 logits
    assert numbers["run.flops"].by_size()[0].latex() == r"12 \, L \, \mathrm{tokens} \, D \, F"


def test_groups_of_layers_have_letters_of_their_own():
    model = archcalc.load("tiny")
    group = model.layers[0]
    wide = group.model_copy(update={"mlp": group.mlp.model_copy(update={"d_ff": 7}), "repeat": 2})
    both = model.model_copy(update={"layers": (group, wide)})
    mlp = archcalc.params(lettered(both)).tally.categories[5]
    assert str(mlp.parameters) == "L1 D F1 + L2 D F2"
    assert mlp.parameters.latex() == r"L_{1} \, D \, F_{1} + L_{2} \, D \, F_{2}"


def test_a_formula_adds_multiplies_divides_and_compares():
    x, y = Formula.letter("S", 7), Formula.letter("D", 3)
    assert str(2 * x * x + y - 1) == "2 S^2 + D - 1"
    assert (2 * x * x + y - 1).value == 2 * 49 + 3 - 1
    assert str((x * y * 4) // y) == "4 S"
    assert str(x / 2) == "1/2 S"
    assert (x / 2).latex() == r"\frac{1}{2} \, S"
    assert str(-(-x // 2)) == "ceil(S / 2)"
    assert (-(-x // 2)).value == 4  # rounded up
    assert str((x + y) // (x * y)) == "floor((S + D) / (S D))"
    assert x > y
    assert y < 4
    assert x - x == 0
    assert not x - x
    assert str(x - x) == "0"
    assert str(0 - x) == "-S"
    assert (x * x * y).with_values() == "7^2 x 3"
    with pytest.raises(ArithmeticError, match="no factor"):
        (x + y) / y
    with pytest.raises(ArithmeticError, match="no product"):
        x / (x + y)


def test_a_run_in_letters_counts_every_kind_of_pair():
    model = lettered(archcalc.load("tiny"))
    run = lettered_run(archcalc.Run(sequence=9, causal="exact"))
    scores = next(part for part in archcalc.flops(model, run).categories if part.category == "scores")
    assert str(scores.forward) == "L B S^2 G R K + L B S G R K"  # 2 x S (S + 1) / 2


def test_a_long_formula_breaks_between_its_terms():
    formula = archcalc.params(lettered(archcalc.load("gpt2"))).stored
    lines = formula.lines(40)
    assert " ".join(lines) == str(formula)
    assert all(len(line) <= 40 for line in lines)
    assert all(line.startswith(("+ ", "- ")) for line in lines[1:])


def test_what_is_shown_and_where_it_comes_from():
    done = ask("explain", "gpt2@d_ff=1000", "tally.categories.up_projection.parameters")
    assert done.code == 0
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "Formula L D F" in lines
    assert "L D F 12 x 768 x 1,000 9,216,000 100.00%" in lines
    assert "D 768 features of the residual stream d_model (gpt2.yaml:7)" in lines
    assert "F 1,000 hidden features of the MLP d_ff (asked)" in lines


def test_json_has_rows_letters_and_latex():
    done = ask("explain", "gpt2", "parameters stored".replace(" ", "."), "--format", "json")
    told = json.loads(done.out)
    assert told["schema"] == 0
    assert told["value"] == sum(row["value"] for row in told["rows"]) == 124_439_808
    assert {"letter": "D", "value": 768, "meaning": "features of the residual stream"}.items() <= next(
        one for one in told["letters"] if one["letter"] == "D"
    ).items()
    assert told["letters"][-1]["fields"] == [{"field": "context_length", "file": "gpt2.yaml", "line": 6}]
    assert told["latex"].startswith(r"2 \, L \, D \, F")
    assert "a tied table counts once" in told["convention"]


def test_without_a_path_all_numbers_are_listed_once():
    done = ask("explain", "tiny", "--format", "json", "--tokens", "1M")
    paths = [row["path"] for row in json.loads(done.out)["rows"]]
    assert len(set(paths)) == len(paths)
    assert {"parameters.stored", "flops.forward", "memory.total", "run.flops"} <= set(paths)
    assert {"layers.layers.{i}.mlp.parameters", "tensors.embedding.token.weight.parameters"} <= set(paths)


@pytest.mark.parametrize(
    "path",
    [
        "memory.terms.temporaries.bytes",
        "memory.total",
        "parameters.stored",
        "flops.training",
        "devices.h100-sxm.training",
        "inference.total",
    ],
)
def test_latex_breaks_its_lines_and_carries_its_legend(path):
    out = ask("explain", "gpt2", path, "--format", "latex").out
    assert out.isascii()
    assert out.count("{") == out.count("}")
    assert sorted(re.findall(r"\\begin{(\w+\*?)}", out)) == sorted(re.findall(r"\\end{(\w+\*?)}", out))
    body, _, legend = out.partition(r"\end{equation*}")
    assert all(len(re.findall(r" [+-] ", line)) <= 4 for line in re.split(r"\\\\", body.partition("aligned}")[2]))
    formula = re.sub(r"\\[a-z]+({\w+}|{[^}]*})?", "", body.partition("={}")[2])
    for letter in set(re.findall("[A-Z]", formula)):
        assert f"\n${letter}$ & " in legend


def test_a_short_formula_is_exactly_this():
    done = ask("explain", "gpt2", "memory.terms.temporaries.bytes", "--format", "latex")
    assert (
        done.out
        == r"""% gpt2: memory.terms.temporaries.bytes = 411,705,344; needs \usepackage{amsmath}
\begin{equation*}
\begin{aligned}
\text{memory.terms.temporaries.bytes} ={} & 8 \, B \, S \, V
\end{aligned}
\end{equation*}
\begin{tabular}{lrl}
$B$ & 1 & sequences in the batch \\
$S$ & 1,024 & positions of a sequence \\
$V$ & 50,257 & tokens in the vocabulary \\
\end{tabular}
"""
    )


def test_a_number_rounded_up_is_a_ceiling():
    state = ask("explain", "gpt3-175b", "devices.h100-sxm.training", "-f", "json").json
    assert state["formula"].startswith("ceil(")
    assert state["latex"].startswith(r"\left\lceil \frac{")
    assert state["value"] == 33
    letters = {one["letter"]: one["value"] for one in state["letters"]}
    assert evaluate(state["formula"], letters) == 33


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["flops"],
            "QUANTITY: is not a single number; got 'flops'; below it: flops.forward, flops.backward, flops.training",
        ),
        (
            ["flop.forward"],
            "QUANTITY: is not a number of report, params, flops or memory; got 'flop.forward'; nearest: flops.forward",
        ),
        (
            [""],
            "QUANTITY: is not a number of report, params, flops or memory; got ''; leave out QUANTITY to list all of them",
        ),
        (["--format", "latex"], "--format: latex shows one number; name a QUANTITY, such as flops.per_token"),
    ],
)
def test_what_cannot_be_explained_is_one_line(arguments, line):
    done = ask("explain", "gpt2", *arguments)
    assert done.code == 2
    assert done.err.startswith(line)
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("flags", [(), ("--batch", "2"), ("--optimizer", "sgd")])
@pytest.mark.parametrize(
    ("path", "near"),
    [("training.total", "flops.training"), ("flops.trainin", "flops.training"), ("stored", "parameters.stored")],
)
def test_a_number_that_does_not_exist_is_told_before_flags(path, near, flags):
    told = ask("explain", "gpt2", path, *flags)
    assert told.code == 2
    assert told.err.startswith(
        f"QUANTITY: is not a number of report, params, flops or memory; got {path!r}; nearest: "
    )
    assert near in told.err


@pytest.mark.parametrize("path", ["parameters.stored", "memory.total"])
def test_passes_are_recorded_as_often_for_many_kinds_of_layers_as_for_few(path, monkeypatch):
    """Each kind has letters of its own, and to look one up takes no pass: that took minutes where layers differ."""
    record, taken = archcalc.Model.record, []
    monkeypatch.setattr(archcalc.Model, "record", lambda self, run=None: (taken.append(1), record(self, run))[1])
    tiny = find("tiny")
    often = []
    for widths in ((8,), range(8, 18)):
        layers = tuple(
            tiny.model.layers[0].model_copy(update={"mlp": tiny.model.layers[0].mlp.model_copy(update={"d_ff": n})})
            for n in widths
        )
        found = tiny._replace(model=tiny.model.model_copy(update={"layers": layers, "published": ()}))
        taken.clear()
        explanation_sheet(found, path, one_pass(found.model))
        often.append(len(taken))
    assert often[0] == often[1] > 0


def test_a_letter_is_cited_where_its_block_states_it():
    """Falcon-H1 has a Mamba-2 and an attention in each layer, both with n_heads and d_head."""
    fields = _cited("falcon-h1-0.5b", "parameters.stored")
    attention, mamba = (f"layers.0.branches.{i}.mixer" for i in (1, 0))
    model = archcalc.load("falcon-h1-0.5b")
    assert [branch.mixer.kind for branch in model.layers[0].branches] == ["mamba2", "multi_head", "gated"]
    assert fields["K"] == fields["W"] == [f"{attention}.d_head"]
    assert fields["R"] == [f"{attention}.n_heads", f"{attention}.n_kv_heads"]
    assert fields["p"] == [f"{mamba}.d_head"]
    assert fields["h"] == [f"{mamba}.n_heads", f"{mamba}.n_groups"]


@pytest.mark.parametrize("name", one_of_each())
def test_a_letter_has_the_value_of_the_one_field_that_is_cited(name):
    """But the positions before the present one, which a convolution sees beside it."""
    data = plain(archcalc.load(name))
    for letter in ask("explain", name, "flops.forward", "-f", "json").json["letters"]:
        if len(letter["fields"]) == 1 and not re.fullmatch(r"L\d*|before\d*", letter["letter"]):
            value = data
            for step in letter["fields"][0]["field"].split("."):
                value = value[int(step) if step.isdigit() else step]
            assert value == letter["value"], letter


def _cited(spec, path):
    letters = ask("explain", spec, path, "-f", "json").json["letters"]
    return {letter["letter"]: [field["field"] for field in letter["fields"]] for letter in letters}


LATENTS = {
    "model_type": "deepseek_v3",
    "num_hidden_layers": 4,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
}
HYBRID = {
    "model_type": "gemma4_text",
    "num_hidden_layers": 6,
    "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
    "head_dim": 32,
    "global_head_dim": 64,
}


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (LATENTS, {"Z1": "kv_lora_rank", "Z2": "kv_lora_rank", "rope2": "qk_rope_head_dim"}),
        (HYBRID, {"K1": "head_dim", "K2": "global_head_dim", "W2": "global_head_dim"}),
    ],
    ids=["latents", "kinds"],
)
def test_a_letter_of_a_config_has_the_one_key_that_its_own_layers_read(config, keys, tmp_path):
    """In the second group of layers too, and in a block that a leaf of the family reads as a whole."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    letters = ask("explain", str(path), "cache.per_token", "-f", "json").json["letters"]
    cited = {letter["letter"]: [field["keys"] for field in letter["fields"]] for letter in letters}
    assert {letter: cited[letter] for letter in keys} == {letter: [[key]] for letter, key in keys.items()}
    assert "asked" not in ask("explain", str(path), "cache.per_token").out


def test_what_a_question_set_is_asked_in_its_own_group_alone():
    asked = ask("explain", "deepseek-v3@layers.1.attention.kv_rank=256", "cache.per_token", "-f", "json").json
    marks = {
        letter["letter"]: [field.get("asked", False) for field in letter["fields"]] for letter in asked["letters"]
    }
    assert marks["Z1"] == [False]
    assert marks["Z2"] == [True]
