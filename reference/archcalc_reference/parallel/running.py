"""A training under a plan, from its first line to its last: what ranks do together, and what the first one tells."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, TextIO

from archcalc.errors import Invalid, Problem, printable, shown
from archcalc.plan.description import Plan
from archcalc.spec.catalogue import Found, find
from archcalc.spec.checkpoints import SPEC, Chosen, is_checkpoint, name_of, weights_in
from archcalc.spec.settings import Learned
from archcalc.units import grouped, several
from archcalc_reference.parallel.asking import Asked, settings
from archcalc_reference.parallel.checkpoints import RANKS, export, go_on, newest_of_ranks, save, state_of
from archcalc_reference.parallel.learning import RankTrainer, refuse_undivided
from archcalc_reference.parallel.place import Ended
from archcalc_reference.parallel.world import World
from archcalc_reference.training.data import Data, read_stream
from archcalc_reference.training.locking import alone
from archcalc_reference.training.trainer import Heard

DEFAULT_SPEC = "tiny"
_LINES = 20  # of a whole training
_HANDED_ON = 2  # seconds in which the same Ctrl-C may come once more
_INTERRUPTED = 130


def run(asked: Asked, world: World) -> None:
    """Train, from the newest checkpoint where there is one. Raises Ended where a signal asked to stop."""
    with ExitStack() as held:
        if asked.out is not None:
            with world.together():
                if world.first:
                    held.enter_context(alone(asked.out))
        chosen = world.of_first(lambda: _chosen(asked.out))
        if chosen is not None and chosen.said:
            world.tell(chosen.said)
        if asked.export and chosen is None:
            raise Invalid(Problem("--export", "needs an --out with a checkpoint that ranks wrote"))
        trainer, learned = _begun(asked, world, None if chosen is None else chosen.path)
        log = None
        with world.together():
            if world.first and asked.losses is not None:
                log = held.enter_context(_appended(asked.losses))
        if not asked.export:
            _learn(asked, trainer, learned, log)
        if asked.out is not None:
            _export(asked.out, trainer, learned)


def _chosen(out: Path | None) -> Chosen | None:
    """The checkpoint to go on from. Raises Invalid where there are other weights, or all are damaged."""
    if out is None:
        return None
    found = newest_of_ranks(out / RANKS)
    if found is None and weights_in(out) is not None:
        what, fix = "has weights that no ranks wrote", "choose another --out, or continue them with archcalc train"
        raise Invalid(Problem("--out", what, value=shown(str(out)), suggestion=fix))
    return found


def _begun(asked: Asked, world: World, start: Path | None) -> tuple[RankTrainer, Learned]:
    """The trainer at its place, and the data that it learns from."""
    with world.together():
        state = None if start is None else state_of(start)
        found = _found(asked.spec, start)
        chosen = settings(asked, found.model.context_length, {} if state is None else state.settings.model_dump())
        if state is not None and chosen.steps < state.step:
            what = f"is less than the {state.step:,} that the checkpoint has done"
            raise Invalid(Problem("--steps", what, value=f"{chosen.steps:,}"))
        refuse_undivided(asked.plan, chosen)
        files = asked.data or (() if state is None else tuple(state.data.files))
        said = asked.data_as or (None if state is None or asked.data else state.data.data_as)
        stream, kind = read_stream(files, found.model.n_logits, None, said)
        data = Data(stream, chosen.sequence, chosen.seed, kind)
        names = [os.path.abspath(file) for file in files]
        learned = Learned(files=names, data_as=said, kind=kind, fingerprint=data.fingerprint())
        if state is not None and (state.data.kind, state.data.fingerprint) != (learned.kind, learned.fingerprint):
            what, fix = "differs from the data of the checkpoint", "choose another --out to learn it"
            value = shown(list(files)) if files else "archcalc's own sources"
            raise Invalid(Problem("--data", what, value=value, suggestion=fix))
    with world.together():
        trainer = RankTrainer(found.model, chosen, data, asked.plan, world)
        if start is not None and state is not None:
            go_on(start, trainer, state.step)
    _announce(found, trainer, world)
    return trainer, learned


def _found(spec: str | None, start: Path | None) -> Found:
    """The spec that was named, which must be the checkpoint's; or the checkpoint's; or the default."""
    if start is None:
        return find(spec or DEFAULT_SPEC)
    mine = find(os.fspath(start / SPEC))
    if spec is None:
        return mine
    asked = find(spec)
    if asked.model != mine.model.model_copy(update={"name": asked.model.name}):
        fix = "leave it out, or choose another --out"
        raise Invalid(Problem(spec, f"is not the architecture of {start}", suggestion=fix))
    return asked


def _announce(found: Found, trainer: RankTrainer, world: World) -> None:
    asked, plan = trainer.settings, trainer.plan
    begins = f"continuing after step {grouped(trainer.done)}" if trainer.done else "training"
    parts = f" in {asked.accumulate} micro-batches" if asked.accumulate > 1 else ""
    size = f"{grouped(asked.batch)} x {grouped(asked.sequence)} tokens per step{parts}"
    where = f"{several(world.size, 'rank')} on {'GPUs' if world.device.type == 'cuda' else 'the CPU'}"
    world.tell(f"{found.name}: {begins} with {where} ({degrees(plan)}): {size}")


def degrees(plan: Plan) -> str:
    """What of a plan is run, in a few words."""
    tp = f" x tp {plan.tp}" + (" with sequence parallelism" if plan.sequence_parallel else "")
    return f"dp {plan.dp}{tp if plan.tp > 1 else ''}, {'fully_shard' if plan.zero else 'ZeRO 0'}"


class _Pace(NamedTuple):
    """When the last line was told, and of which step it was."""

    since: float
    done: int


def _learn(asked: Asked, trainer: RankTrainer, learned: Learned, log: TextIO | None) -> None:
    """The steps that are left, with checkpoints of all ranks."""
    world, chosen, out, begun = trainer.world, trainer.settings, asked.out, trainer.done
    between = -(-chosen.steps // 5) if asked.every is None else asked.every
    each, pace = max(-(-(chosen.steps - begun) // _LINES), 1), _Pace(time.perf_counter(), trainer.done)
    if out is None:
        world.tell("nothing will be saved: --out DIR saves checkpoints")
    with _polite() as signalled:
        stop = False
        while trainer.done < chosen.steps and not stop:
            heard = trainer.step()
            if not heard.finite:
                raise _no_number(trainer, heard)
            if log is not None:
                log.write(json.dumps({"step": trainer.done, **heard._asdict()}) + "\n")
            last = trainer.done == chosen.steps
            if trainer.done % each == 0 or last:
                pace = _tell(trainer, heard, pace)
            stop = world.any(bool(signalled)) and not last
            due = trainer.done % between == 0 or last
            if out is not None and (due or stop):
                save(out / RANKS, trainer, learned)
    if stop:
        kept = (
            "nothing was saved"
            if out is None
            else "saved; the same command continues, --export writes it for archcalc"
        )
        world.tell(f"interrupted after step {grouped(trainer.done)}; {kept}")
        raise Ended(_INTERRUPTED)
    if begun == trainer.done:
        world.tell(f"all {grouped(begun)} steps are done; more --steps continue")
    else:
        world.tell(f"held-out loss {trainer.held_out():.4f} after {grouped(trainer.done)} steps")


def _export(out: Path, trainer: RankTrainer, learned: Learned) -> None:
    """Write the end as one process does, where that is not done."""
    world, standing = trainer.world, out / name_of(trainer.done)
    if not world.of_first(lambda: is_checkpoint(standing)):
        export(standing, trainer, learned)
    world.tell(printable(f"saved in {standing}; `archcalc generate {out} --prompt TEXT` generates text with it"))


def _tell(trainer: RankTrainer, heard: Heard, pace: _Pace) -> _Pace:
    now, asked = time.perf_counter(), trainer.settings
    rate = (trainer.done - pace.done) * asked.batch * asked.sequence / (now - pace.since)
    said = f"step {grouped(trainer.done)} of {grouped(asked.steps)}: loss {heard.loss:.4f}"
    trainer.world.tell(f"{said}, {grouped(round(rate))} tokens/s")
    return _Pace(now, trainer.done)


def _no_number(trainer: RankTrainer, heard: Heard) -> Invalid:
    """The error for a training whose numbers overflow, the same on all ranks; earlier checkpoints are kept."""
    what = "gradients are" if math.isfinite(heard.loss) else "loss is"
    kept = "" if trainer.kept is None else f"; {trainer.kept} is intact"
    message = f"the {what} not finite after step {grouped(trainer.done)}"
    return Invalid(
        Problem("--lr", message, value=str(trainer.settings.rate), suggestion=f"a lower one may work{kept}")
    )


@contextmanager
def _appended(path: Path) -> Iterator[TextIO]:
    try:
        with open(path, "a", encoding="utf-8", buffering=1) as file:
            yield file
    except OSError as error:
        raise Invalid(Problem("--losses", f"cannot be written: {error.strerror}", value=shown(str(path)))) from None


@contextmanager
def _polite() -> Iterator[list[float]]:
    """Ctrl-C and SIGTERM ask to stop after the step at hand; filled when asked. A later Ctrl-C stops at once.

    One that comes right after does not: torchrun hands on the Ctrl-C that the terminal sends to all.
    """
    asked: list[float] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and asked and time.monotonic() - asked[0] > _HANDED_ON:
            raise KeyboardInterrupt
        asked.append(time.monotonic())

    before: dict[Any, Any] = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
