"""The tables of our documents that are made from the code. `python tests/docblocks.py` writes them anew.

A table stands between two marks: `<!-- made: NAME -->` and `<!-- end -->`. Tests compare what stands there with the
code, and look for classes and families without a table.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fieldtables import described, field_table
from publishedplans import figures

from archcalc.checks.lint.every import RULES as LINT
from archcalc.checks.rules import Rule
from archcalc.huggingface.families import MODULES
from archcalc.huggingface.families.absent import FEATURES
from archcalc.huggingface.families.wrappers import WRAPPERS
from archcalc.huggingface.importing import import_config
from archcalc.huggingface.layers import each_layer
from archcalc.plan.description import Plan
from archcalc.plan.frameworks import HABITS, RECIPES
from archcalc.plan.rules import RULES
from archcalc.units import binary

ROOT = Path(__file__).parent.parent
VERSION = "5.24"
"""Of transformers, whose types are listed."""
_MARK = re.compile(r"(?<=^<!-- made: )([^\n]+)( -->\n)(.*?)(?=^<!-- end -->$)", re.MULTILINE | re.DOTALL)


def tables() -> dict[str, Callable[[], str]]:
    """What makes each table, by the name in its mark."""
    fields = {f"fields of {one.__name__}": lambda one=one: field_table(one) for one in described()}
    of_plans = {
        "fields of Plan": plan_fields,
        "rules of plans": plan_rules,
        "habits of frameworks": habits,
        "published figures of plans": plan_figures,
    }
    of_lint = {"rules": rules, "reasons of rules": reasons}
    return {
        **of_lint,
        "families": families,
        "wrappers": wrappers,
        "not yet": not_yet,
        "coverage": coverage,
        **fields,
        **of_plans,
    }


def found(document: str) -> dict[str, str]:
    """The tables that a document has, by name."""
    return {match[1]: match[3].strip("\n") + "\n" for match in _MARK.finditer((ROOT / document).read_text())}


def again(document: str) -> str:
    """A document with its tables as the code has them now."""
    made = tables()
    return _MARK.sub(lambda match: f"{match[1]}{match[2]}\n{made[match[1]]()}\n", (ROOT / document).read_text())


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def plan_fields() -> str:
    """The fields of a plan, with the value where none is given."""
    rows = (
        (f"`{name}`", f"`{_in_yaml(field.default)}`", str(field.description))
        for name, field in Plan.model_fields.items()
        if name not in ("schema_version", "name", "source")
    )
    return _table(("field", "default", "meaning"), rows)


def rules() -> str:
    """The rules that specs are checked against, each with a link to its reasons."""
    rows = ((f"[{rule.id}](#{rule.id.lower()})", f"`{rule.name}`", rule.level, rule.says) for rule in LINT.values())
    return _table(("rule", "name", "level", "what is wrong"), rows)


def reasons() -> str:
    """Why each rule is one, where that was read, how to mend it, and an example; with a place to link to."""
    return "\n".join(
        f'<a id="{rule.id.lower()}"></a>\n\n### {rule.id} {rule.name}\n\n'
        + "".join(f"- {label}: {text}\n" for label, text in _of_rule(rule))
        for rule in LINT.values()
    )


def _of_rule(rule: Rule) -> Iterator[tuple[str, str]]:
    yield "What", rule.says
    yield "Why", rule.why
    yield "Source", rule.source
    yield "Fix", rule.fix
    yield "Example", f"`{rule.example}`"
    if rule.needs:
        yield "Looks", f"where a project names a {rule.needs}"


def plan_figures() -> str:
    """What others printed of ranks beside what is counted."""
    rows = (
        (
            figure.what,
            figure.printed,
            binary(figure.ours) if "GiB" in figure.printed else f"{figure.ours / 1e9:.4g} GB",
            f"{100 * figure.error:+.1f}%",
            f"{figure.source}{'; ' + figure.note if figure.note else ''}",
        )
        for figure in figures()
    )
    return _table(("what", "printed", "counted", "difference", "source"), rows)


def _in_yaml(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def plan_rules() -> str:
    """What makes a plan infeasible."""
    return _table(("rule", "what must hold"), ((f"`{rule.name}`", rule.text) for rule in RULES))


def habits() -> str:
    """What each framework does where a plan says nothing, by the field and the plans that it is of."""
    rows: dict[str, dict[str, list[str]]] = {}
    for framework in HABITS:
        for field, value, case in (*HABITS[framework], *RECIPES[framework]):
            alone = [habit.field for habit in RECIPES[framework]].count(field) < 2
            row = f"`{field}`{f', {case.words}' if case.words and alone else ''}"
            said = f"{value}" if alone else f"{value} {case.words}" if case.words else f"else {value}"
            rows.setdefault(row, {}).setdefault(framework, []).append(said)
    return _table(
        ("", *(f"`{name}`" for name in HABITS)),
        ((row, *(", ".join(said.get(name, ())) for name in HABITS)) for row, said in rows.items()),
    )


_SAID: dict[str, dict[str, Any]] = {
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 16},
    "glm4_moe": {"head_dim": 128},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
    "deepseek_v2": {"num_experts_per_tok": 6},
    "glm4v_moe_text": {"head_dim": 128},
    "dots1": {"n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6},
}
"""Of classes whose defaults are no model."""


def families() -> str:
    """A row for each type: what its config class is by default."""
    head = ("`model_type`", "norms", "positions", "MLP", "attention, and what else there is")
    return _table(head, map(_family, MODULES))


def _family(model_type: str) -> tuple[str, ...]:
    spec = import_config({"model_type": model_type, **_SAID.get(model_type, {})}, "config.json").data
    every = [_as_short(layer) for layer in each_layer(spec["layers"])]
    layers = [layer for layer in every if "branches" not in layer]
    others = list(dict.fromkeys(mixer for layer in every for mixer in _others(layer)))
    if len(layers) < len(every):
        return _hybrid(model_type, spec, every, others)
    return (
        f"`{model_type}`",
        _norms(layers[0]),
        ", ".join(dict.fromkeys(_positions(spec, layer) for layer in layers)),
        " or ".join(dict.fromkeys(map(_mlp, layers))),
        "; ".join(_more(spec, layers)) or "-",
    )


def _as_short(layer: dict[str, Any]) -> dict[str, Any]:
    """A layer of an attention and an MLP as the short form would have it, whose norms may not be alike."""
    branches = layer.get("branches", ())
    if [branch["name"] for branch in branches] != ["attention", "mlp"]:
        return layer
    return {**branches[-1], **{branch["name"]: branch["mixer"] for branch in branches}}


_MIXERS = {
    "per_layer": "vectors for each layer",
    "mamba": "Mamba",
    "lightning": "lightning attention",
    "mamba2": "Mamba-2",
    "gated_delta": "gated delta nets",
    "short_conv": "short convolutions",
}


def _others(layer: dict[str, Any]) -> Iterator[str]:
    mixers = (branch["mixer"] for branch in layer.get("branches", ()))
    for mixer in mixers:
        if mixer["kind"] in _MIXERS:
            yield "Kimi delta attention" if mixer.get("decay") == "feature" else _MIXERS[mixer["kind"]]


def _hybrid(model_type: str, spec: dict[str, Any], every: list[dict[str, Any]], others: list[str]) -> tuple[str, ...]:
    """The row of a type whose layers have other mixers than attention."""
    found: list[dict[str, Any]] = []
    normed: list[dict[str, Any]] = []
    for layer in every:
        if "branches" not in layer:
            found.append(layer)
            normed.append(layer)
            continue
        normed += [branch for branch in layer["branches"] if branch["norm"] != "shared"]
        for branch in layer["branches"]:
            mixer = branch["mixer"]
            norm = {name: branch[name] for name in ("norm", "post_norm", "stream_norm") if name in branch}
            name = "attention" if mixer["kind"] in ("multi_head", "latent") else "mlp"
            found += [{**norm, name: mixer}] if mixer["kind"] not in _MIXERS else []
            if added := branch.get("added"):
                found += [{"norm": added["norm"], name: added[name]} for name in ("attention", "mlp")]
    shares = any(branch.get("added") for layer in every for branch in layer.get("branches", ()))
    late = [branch["name"] for layer in every for branch in layer.get("branches", ()) if branch.get("joins") == "end"]
    attentions, mlps = ([layer for layer in found if name in layer] for name in ("attention", "mlp"))
    return (
        f"`{model_type}`",
        _norms(normed[0]),
        ", ".join(dict.fromkeys(_positions(spec, layer) for layer in attentions)) or "none",
        " or ".join(dict.fromkeys(map(_mlp, mlps))) or "none",
        "; ".join(
            [
                *filter(None, [" and ".join(others), "an attention and an MLP that layers share" * shares]),
                *(_more(spec, attentions) if attentions else ()),
                *(f"{name} added at the layer's end" for name in dict.fromkeys(late)),
            ]
        ),
    )


_NORMS = {"layernorm": "LayerNorm", "rmsnorm": "RMSNorm"}


def _norms(layer: dict[str, Any]) -> str:
    places = {"norm": "before", "post_norm": "after", "stream_norm": "of the sum"}
    there = [name for name in places if layer.get(name)]
    one = layer[there[0]]
    how = [
        "1 + weight" * bool(one.get("unit_offset")),
        "no gain" * (one.get("gain") is False),
        "no bias" * (one["kind"] == "layernorm" and one.get("gain") is not False and not one["bias"]),
    ]
    said = [*filter(None, how), *([] if there == ["norm"] else [" and ".join(places[name] for name in there)])]
    return _NORMS[one["kind"]] + (f" ({', '.join(said)})" if said else "")


def _positions(spec: dict[str, Any], layer: dict[str, Any]) -> str:
    attention = layer["attention"]
    if rotary := attention.get("rotary"):
        turned = rotary["d_rotary"]
        d_head = attention["d_nope"] + attention["d_rope"] if attention["kind"] == "latent" else attention["d_head"]
        part = "" if turned == d_head else f" ({turned} of {d_head})"
        return f"rotary{part}"
    if attention.get("alibi"):
        return "ALiBi"
    return str(spec["embedding"]["positions"])


def _mlp(layer: dict[str, Any]) -> str:
    mlp = layer["mlp"]
    if mlp["kind"] == "experts":
        more = [", one shared" * bool(mlp.get("shared")), ", some that hand on" * bool(mlp.get("n_identity"))]
        return f"{mlp['activation']} experts{''.join(more)}"
    return f"{mlp['kind']}, {mlp['activation']}" + (", biases" if mlp["bias"] is True else "")


def _more(spec: dict[str, Any], layers: list[dict[str, Any]]) -> Iterator[str]:
    attention, bias = layers[0]["attention"], layers[-1]["attention"]["bias"]
    if parallel := layers[0].get("parallel"):
        yield f"parallel with the MLP ({parallel} norm{'s' * (parallel == 'own')})"
    if attention["kind"] == "latent":
        yield "latents of keys and values" + (" and of queries" if attention.get("q_rank") else "")
        if attention.get("indexer"):
            yield "an indexer chooses what is read"
    elif attention["n_kv_heads"] == 1:
        yield "one key/value head"
    elif attention["n_kv_heads"] < attention["n_heads"]:
        yield "grouped heads"
    if bias:
        yield "biases" if bias is True else f"{'/'.join(name for name, there in bias.items() if there)} biases"
    if attention.get("qk_norm"):
        over = attention.get("qk_norm_over", "head")
        yield "q/k norms" + ("" if over == "head" else f" over the {over}")
    windows = {layer["attention"].get("window") for layer in layers}
    if windows != {None}:
        yield "windows in some layers" if None in windows else "windows"
    words = {"scale": "own scale of scores", "softcap": "capped scores", "query_growth": "growing queries"}
    words |= {"rank_scale": "scaled latents"}
    yield from (what for name, what in words.items() if attention.get(name))
    everywhere = {"shared_kv": "keys and values of a layer before", "values_are_keys": "values that are keys"}
    everywhere |= {"sinks": "sinks", "gate": "gated output", "d_value": "values of another width"}
    yield from (what for name, what in everywhere.items() if any(layer["attention"].get(name) for layer in layers))
    embedding, unembedding = spec["embedding"], spec["unembedding"]
    yield from (f"{name} of embeddings" for name in ("scale", "norm") if embedding.get(name))
    yield from (
        what for name, what in (("scale", "scaled logits"), ("softcap", "capped logits")) if unembedding.get(name)
    )
    if unembedding["tied"]:
        yield "tied"
    if unembedding["bias"]:
        yield "bias of logits"


def wrappers() -> str:
    """The types of models of which the text model alone is counted."""
    rows: dict[tuple[str, str], list[str]] = {}
    for name, wrapper in WRAPPERS.items():
        rows.setdefault((wrapper.text, wrapper.leaves_out), []).append(name)
    head = ("`model_type`", "text model, where it names none", "left out")
    return _table(
        head, ((", ".join(f"`{n}`" for n in names), f"`{text}`", out) for (text, out), names in rows.items())
    )


def causal_types() -> list[str]:
    """The types that AutoModelForCausalLM of the installed transformers builds."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def is_counted(model_type: str) -> bool:
    """Whether a config of a type is read, at least the text model in it."""
    from archcalc.huggingface import families as known

    return model_type in MODULES or model_type in WRAPPERS or model_type in known._SAME


def coverage() -> str:
    """How many of transformers' types are read."""
    types = causal_types()
    counted = sum(map(is_counted, types))
    return (
        f"Of the {len(types)} types that `AutoModelForCausalLM` of transformers {VERSION} builds, {counted} are read; "
        f"{len(types) - counted} are not yet.\n"
    )


def not_yet() -> str:
    """What keeps the other types out, with how many of them."""
    missing: dict[str, list[str]] = {}
    for name in causal_types():
        if not is_counted(name):
            missing.setdefault(FEATURES[name].removesuffix(" is").removesuffix(" are"), []).append(name)
    order = Counter({what: len(names) for what, names in missing.items()})
    rows = ((what, f"{n}", ", ".join(f"`{one}`" for one in sorted(missing[what]))) for what, n in order.most_common())
    return _table(("not supported yet", "types", "`model_type`"), rows)
