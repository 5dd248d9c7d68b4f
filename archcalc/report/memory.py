"""The sheet of memory: the terms of the peak, the other phases, and whether a device holds it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple

from archcalc.counts.activations import cache, recurrent_state
from archcalc.counts.lettered import lettered, lettered_run
from archcalc.counts.memory import Memory, alive, choose, memory, runs_op_by_op
from archcalc.counts.parameters import params
from archcalc.counts.quantities import Asked, values
from archcalc.hardware.devices import find_device
from archcalc.hardware.fitting import Fit, devices_at_least
from archcalc.plan.description import Plan
from archcalc.report.kept import cache_lines, cache_words
from archcalc.report.sheet import Cell, Fields, Sheet, Table, caveats, figures, notes, payload, recomputed, words
from archcalc.spec.catalogue import Found
from archcalc.spec.model import Model
from archcalc.tape.legend import Size
from archcalc.tape.precision import BITS, DEFAULTS, FORMATS, Keeping, compute_width
from archcalc.tape.roles import widths
from archcalc.tape.run import MEMORY_KERNEL, Run
from archcalc.units import binary, grouped, several

if TYPE_CHECKING:
    from archcalc.hardware.planning import PlanFit


def memory_sheet(found: Found, run: Run, keeping: Keeping, used: Memory, fit: Fit | None) -> Sheet:
    """What is alive at the peak, term by term, and whether a device holds it."""
    verb = "to train on" if used.purpose == "training" else "to serve"
    size = several(run.batch * run.sequence, "token")
    formulas = {term.name: str(term.bytes) for term in lettered_memory(found.model, run, keeping).terms}
    return Sheet(
        title=f"{found.name}: {grouped(used.total)} bytes {verb} {size} ({binary(used.total)})",
        blocks=(
            _table(used),
            Fields(
                (
                    *([("Device", fit_lines(fit, used))] if fit else []),
                    *_lines(found.model, run, keeping, used),
                    *caveats(found),
                )
            ),
        ),
        payload=payload(
            found.name,
            **memory_payload(found.model, run, keeping, used, formulas),
            device=fit._asdict() if fit else None,
            fits=fit.fits if fit else None,
            **notes(found),
        ),
        records=tuple({**term._asdict(), "formula": formulas[term.name]} for term in used.terms),
    )


def lettered_memory(model: Model, run: Run, keeping: Keeping) -> Memory:
    """The same in letters: the formulas of the moments that are largest at these sizes."""
    chosen = choose(list(alive(model, run, keeping)))
    return memory(lettered(model), lettered_run(run), keeping, chosen)


def memory_payload(model: Model, run: Run, keeping: Keeping, used: Memory, formulas: dict[str, str]) -> dict[str, Any]:
    """The memory as JSON."""
    asked = Asked(model, Run(), run, keeping)
    numbers = memory_numbers(used)
    terms = [{**term, "formula": formulas[term["name"]]} for term in numbers["terms"]]
    known = {"memory.total": used.total, "memory.state": used.state}
    return {
        "memory": {**values(asked, ("memory",), known)["memory"], **numbers, "terms": terms},
        **values(asked, ("activations", "cache")),
        "conventions": {
            "phase": run.phase,
            "batch": run.batch,
            "sequence": run.sequence,
            "attention": run.by_default(MEMORY_KERNEL).kernel,
            "activation_kernel": run.activation,
            "dropout": run.dropout,
            **keeping._asdict(),
        },
    }


def memory_numbers(used: Memory) -> dict[str, Any]:
    """What was counted of it."""
    return {
        "for": used.purpose,
        "total": used.total,
        "peak": used.peak,
        "state": used.state,
        "terms": [term._asdict() for term in used.terms],
        "phases": [phase._asdict() for phase in used.phases],
        **({"host": used.host} if used.host else {}),
    }


def _cache_per_token(model: Model, keeping: Keeping) -> Any:
    return cache(model, Run("prefill"), keeping.kv_width)


class Standing(NamedTuple):
    """A model's memory at one context, in training and in inference, and how many devices hold each at least."""

    training: Memory
    inference: Memory
    cache_per_token: Size
    caches: tuple[Size, Size]
    state: Size
    devices: dict[str, tuple[Size, Size]]


SHOWN = ("h100-sxm", "mi300x")  # the two that a report measures by


def standing(model: Model, *, letters: bool = False) -> Standing:
    """The memory of one context, of training with mixed-16 and of inference in bf16."""
    count = lettered_memory if letters else memory
    run = Run(sequence=model.context_length, attention="flash")
    served = Keeping(DEFAULTS["inference"])
    training = count(model, run, Keeping())
    inference = count(model, run._replace(phase="prefill", logits="last"), served)
    shown = [find_device(name) for name in SHOWN]
    devices = {one.name: (devices_at_least(training, one), devices_at_least(inference, one)) for one in shown}
    kept = lettered(model) if letters else model
    caches = _caches(model, run, served)
    return Standing(training, inference, _cache_per_token(kept, served), caches, _state(model, served), devices)


def standing_numbers(found: Standing) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "memory": memory_numbers(found.training),
        "inference": memory_numbers(found.inference),
        "devices": [{"device": name, "training": n, "inference": m} for name, (n, m) in found.devices.items()],
    }


def standing_lines(model: Model, found: Standing, run: Run) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The same in three lines, and more of a cache that is not keys and values of all positions in all layers."""
    train, serve = found.training, found.inference
    weights = next(term.bytes for term in serve.terms if term.name == "weights")
    trained = f"training peak {binary(train.total)}, of which state {binary(train.state)} (mixed-16, flash)"
    cached = f"cache {binary(found.cache_per_token)}/token"
    served = f"inference {binary(serve.total)} (bf16), weights {binary(weights)}, {cached}"
    (name, (trains, serves)), *rest = found.devices.items()
    many = f"at least {grouped(trains)} {name} to train and {grouped(serves)} to serve"
    others = [f"{other}: {grouped(n)} and {grouped(m)}" for other, (n, m) in rest]
    memory = (trained, served, *cache_lines(model), *paged_lines(found.caches, run), *state_lines(found.state))
    return (("Memory", memory), ("Devices", ("; ".join([many, *others]),)))


def _table(used: Memory) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (term.name, term.bytes, binary(term.bytes), term.kind, term.witness) for term in used.terms
    ]
    return Table(
        title="Memory at the peak, term by term",
        columns=(*words("term"), *figures("bytes", ""), *words("", "source")),
        rows=tuple(rows),
        total=("total", used.total, binary(used.total), None, None),
    )


def fit_lines(fit: Fit, used: Memory) -> tuple[str, ...]:
    """Whether it fits, how many devices it takes, and how far it could grow."""
    grow = f"largest batch {grouped(fit.largest_batch)}, longest context {grouped(fit.longest_context)}"
    if not fit.largest_batch and not fit.longest_context:
        grow = "not even batch 1 at this context fits, nor a context of 1 at this batch"
    what = "weights and cache" if used.purpose == "inference" else "weights, gradients and optimizer state"
    many = f"{what} alone need at least {several(fit.devices_at_least, 'device')} without a reserve"
    even = f"{grouped(fit.devices_if_even)} if the whole peak divides evenly (modelled)"
    return (
        f"{fit.device}: {verdict(fit.left)}; {binary(fit.usable)} usable",
        *(() if fit.fits else (f"{many}; {even}",)),
        grow,
        usable_line(fit),
    )


def verdict(left: int) -> str:
    """Whether it fits, and what is left or short."""
    return f"fits, {binary(left)} left" if left >= 0 else f"does NOT fit, {binary(-left)} short"


def usable_line(fit: Fit | PlanFit) -> str:
    """What of a device can be used, and why not all."""
    basis = "visible to programs" if fit.basis == "visible" else "by its label, 1 GB = 10^9 bytes"
    return f"usable: {binary(fit.capacity)} ({basis}) less a {fit.percent}% reserve for driver and fragmentation"


def _lines(model: Model, run: Run, keeping: Keeping, used: Memory) -> tuple[tuple[str, tuple[str, ...]], ...]:
    lines = (("Peak", (used.peak,)), ("Phases", (phase_line(used),)))
    if used.purpose == "training":
        each = used.state / params(model).stored
        state = f"{grouped(used.state)} bytes between steps, {each:.4g} per parameter"
        return (*lines, ("State", (state,)), ("Counted", training_lines(model, run, keeping)))
    per_token = _cache_per_token(model, keeping)
    kept = f"{grouped(per_token)} bytes per token" + f" ({binary(per_token)})" * bool(per_token)
    cached = (
        f"{kept}: {cache_words(model)}",
        *paged_lines(_caches(model, run, keeping), run),
        *state_lines(_state(model, keeping)),
    )
    return (*lines, ("Cache", cached), ("Counted", inference_lines(model, run, keeping)))


def _caches(model: Model, run: Run, keeping: Keeping) -> tuple[Size, Size]:
    """What windows leave of the cache, and what an engine holds that pages every layer in full."""
    kept, paged = (cache(model, run, keeping.kv_width, paged=paged) for paged in (False, True))
    return kept, paged


def paged_lines(caches: tuple[Size, Size], run: Run) -> tuple[str, ...]:
    """The two caches of a pass, where they are not one."""
    kept, paged = caches
    if kept == paged:
        return ()
    of = several(run.batch * run.sequence, "token")
    return (f"{of}: {binary(kept)} by windows (cache.total), {binary(paged)} with every layer in full (cache.paged)",)


def _state(model: Model, keeping: Keeping) -> Size:
    return recurrent_state(model, Run("prefill"), widths(compute_width(keeping.precision)))


def state_lines(one: Size) -> tuple[str, ...]:
    """The recurrent state of a sequence, where there is one."""
    return (f"recurrent state {binary(one)} per sequence, whatever its length",) if one else ()


def phase_line(used: Memory) -> str:
    """The most of each phase."""
    return ", ".join(f"{phase.phase} {binary(phase.bytes)}" for phase in used.phases)


def training_lines(
    model: Model, run: Run, keeping: Keeping, varied: Collection[str] = (), plan: Plan | None = None
) -> tuple[str, ...]:
    """What was asked, in words, less what rows say that have it `varied`; a `plan` may have some layers recomputed."""
    size = f"{grouped(run.batch)} x {several(run.sequence, 'token')}, {run.attention} attention"
    held = "gradients kept between steps" if keeping.holds else "gradients allocated as activations are freed"
    recipe = [
        *([] if "precision" in varied else [f"{keeping.precision}: {keeping.recipe.meaning}"]),
        *([] if "optimizer" in varied else [keeping.method.meaning]),
    ]
    return (
        *(["; ".join(recipe)] if recipe else []),
        ", ".join(
            (
                size,
                *(() if "recompute" in varied else (recomputed(keeping.recompute, plan),)),
                "dropout" if run.dropout else "no dropout",
            )
        )
        + ("" if "accumulation" in varied else f"; {held}"),
        *activation_lines(model, run),
    )


def activation_lines(model: Model, run: Run) -> tuple[str, ...]:
    """Which kernels run the activation function, where it makes a difference."""
    return (ACTIVATIONS[run.activation],) if runs_op_by_op(model) else ()


ACTIVATIONS = {
    "fused": "activation kernel fused: GELU is one kernel, as torch's gelu is",
    "eager": "activation kernel eager: GELU runs op by op and stores each result, as transformers' gelu_new does",
}


def inference_lines(model: Model, run: Run, keeping: Keeping) -> tuple[str, ...]:
    """What was asked, in words."""
    computed, kept = 8 * compute_width(keeping.precision), 8 * keeping.kv_width
    size = f"prefill of {grouped(run.batch)} x {several(run.sequence, 'token')}, then decode with a full cache"
    return (
        f"{_weights(model, keeping)}, {computed}-bit activations, {kept}-bit cache",
        f"{size}; {run.attention} attention, logits of the last position",
        *activation_lines(model, run),
    )


def _weights(model: Model, keeping: Keeping) -> str:
    """How wide weights are; in a format with scales, how many bytes each type of it has."""
    if keeping.precision not in FORMATS:
        return f"{BITS[keeping.precision]}-bit weights"
    from archcalc.counts.formats import formatted

    counts = params(model)
    types: dict[str, int] = {}
    for one in formatted(counts, keeping.precision):
        types[one.type] = types.get(one.type, 0) + one.bytes
    parts = ", ".join(f"{binary(n)} {name}" for name, n in sorted(types.items(), key=lambda item: -item[1]))
    return f"{keeping.precision}: {8 * sum(types.values()) / counts.stored:.4f} bits a weight ({parts})"
