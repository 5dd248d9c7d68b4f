"""Real processes, one for each rank, that take steps together over gloo: the witness of what a rank holds.

They are forked from a process of one thread that has PyTorch loaded, which is started for them: forked from one that
has used several threads they wait for ever. `python -m archcalc.proof.processes` is that process; it reads a job and
writes what each rank saw, as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from archcalc.errors import Invalid, Problem
from archcalc.plan.description import Plan
from archcalc.proof.allocator import make_optimizer, peak_within, undisturbed
from archcalc.proof.alone import STEPS, losses_alone, texts_of
from archcalc.proof.applied import Meshes
from archcalc.proof.issued import Issued, issued
from archcalc.proof.living import living, part_of
from archcalc.proof.staged import StageSeen, stage_steps_of
from archcalc.proof.witness import id_of
from archcalc.spec.dumping import plain
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.run import MEMORY_KERNEL, Run

RECORDED = 3  # steps more, whose memory is recorded
PATIENCE = 120  # seconds, of which starting takes most
LETTING_GO = 0.05  # seconds, in which gloo's own thread drops what it has reduced


class Seen(NamedTuple):
    """What one rank saw: elements of its parameters, bytes that autograd saved, peaks of the last step in bytes, and
    the loss of each step.

    `tensors` is the part of `passes` that kernels handed out; `alone` are the losses of one process that has all
    sequences. `routed` are the bytes that autograd saved where experts got the vectors that a router chose, `issued`
    the collectives of that step.
    """

    parameters: int
    saved: int
    routed: int
    passes: int
    tensors: int
    step: int
    losses: list[float]
    alone: list[float]
    issued: list[Issued]


def run_ranks(model: Model, plan: Plan, run: Run, keeping: Keeping) -> list[Seen]:
    """Take steps in as many processes as the plan has ranks, each with `run.batch` sequences of its own.

    Raises Invalid for a plan that the reference does not run, RuntimeError where a process fails or takes too long.
    """
    from archcalc_reference.parallel.applying import refuse_unrun

    refuse_unrun(plan, tensors=True, experts=True)
    return [Seen(**seen) for seen in _together(model, plan, run, keeping)]


def run_stages(model: Model, plan: Plan, run: Run, keeping: Keeping) -> list[StageSeen]:
    """Take steps in a process for each stage of the plan's pipeline, with micro-batches of `run.batch` sequences.

    Raises Invalid for a model that the reference does not cut into stages, RuntimeError as `run_ranks`.
    """
    return [StageSeen(**seen) for seen in _together(model, plan, run, keeping)]


def _together(model: Model, plan: Plan, run: Run, keeping: Keeping) -> list[dict[str, Any]]:
    """What the rank of each process saw."""
    run = run.by_default(MEMORY_KERNEL)
    job = {"model": plain(model), "plan": plan.model_dump(), "run": run._asdict(), "keeping": keeping._asdict()}
    command = [sys.executable, "-W", "ignore", "-m", "archcalc.proof.processes"]
    given = {**os.environ, "OMP_NUM_THREADS": "1", "KINETO_LOG_LEVEL": "99"}
    try:
        done = subprocess.run(  # noqa: S603  (Python itself, and this module)
            command, input=json.dumps(job), capture_output=True, text=True, timeout=PATIENCE, env=given, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{plan.world} processes took more than {PATIENCE} seconds") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["a process of a rank failed"])[-1]
        refused = last.partition("archcalc.errors.Invalid: ")[2]
        raise Invalid(Problem("the small model", refused)) if refused else RuntimeError(last)
    return [_read(seen) for seen in json.loads(done.stdout)]


def _read(seen: dict[str, Any]) -> dict[str, Any]:
    """What a rank wrote; JSON has lists where it had tuples."""
    called = [Issued(operation, phase, tuple(ranks), *rest) for operation, phase, ranks, *rest in seen["issued"]]
    return {**seen, "issued": called}


def _serve(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Fork a process for each rank, and put together what they write."""
    import torch.distributed.fsdp  # what a step uses is imported once, before the fork
    from torch.multiprocessing.spawn import start_processes

    import archcalc_reference.model.transformer
    import archcalc_reference.parallel.applying  # noqa: F401

    torch.optim.SGD([torch.zeros(1)])  # the first optimizer of a process imports much of PyTorch
    ranks = Plan.model_validate(job["plan"]).world
    with tempfile.TemporaryDirectory() as folder:
        waiting = start_processes(_rank, args=(folder, ranks, job), nprocs=ranks, join=False, start_method="fork")
        while not waiting.join(timeout=PATIENCE):
            pass
        return [json.loads((Path(folder) / f"rank{rank}").read_text()) for rank in range(ranks)]


def _rank(rank: int, folder: str, ranks: int, job: dict[str, Any]) -> None:
    """One rank's part of the job."""
    import torch.distributed as dist

    model, run = Model.model_validate(job["model"]), Run(**job["run"])
    plan, keeping = Plan.model_validate(job["plan"]), Keeping(**job["keeping"])
    dist.init_process_group("gloo", rank=rank, world_size=ranks, store=dist.FileStore(f"{folder}/store", ranks))
    seen = (stage_steps_of if plan.pp > 1 else steps_of)(model, plan, run, keeping, rank)
    (Path(folder) / f"rank{rank}").write_text(json.dumps(seen._asdict()))
    dist.destroy_process_group()


def steps_of(model: Model, plan: Plan, run: Run, keeping: Keeping, rank: int) -> Seen:
    """Take steps as one rank of a process group that is there; of the last the collectives are recorded.

    In a few more, of which memory is recorded, all experts get as many vectors, as is counted. gloo drops what it
    sent in a thread of its own, at times late, so that the least peak is that of the step.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    from archcalc_reference.model.dealing import balanced
    from archcalc_reference.parallel.applying import cut_loss

    meshes = Meshes(plan)
    texts, own = texts_of(model, run, plan.dp), rank // plan.tp
    alone = losses_alone(model, run, keeping, texts) if rank == 0 and keeping.precision == "fp32" else []
    tokens, targets = (x[own * run.batch : (own + 1) * run.batch] for x in texts)
    losses: list[float] = []
    watched: list[_Watch] = []
    held: list[int] = []
    calls = issued()
    with undisturbed(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        torch.manual_seed(0)
        reference = meshes.apply(model, keeping)
        tokens, targets = tokens.clone(), targets.clone()
        optimizer = make_optimizer(keeping, dict(reference.named_parameters()))
        for turn in range(STEPS + RECORDED):
            watch = _Watch(reference, optimizer, [tokens, targets])
            recording, calls.phase = calls if turn == STEPS - 1 else nullcontext(), "forward"
            as_counted = balanced(reference) if turn >= STEPS else nullcontext()
            with record_function(f"passes {turn}"), cut_loss(plan), as_counted, recording, watch:
                output = reference(tokens, targets, run.kernel, recompute=keeping.recompute == "full")
                watch.forward_ends()
                loss = output.loss
                del output
                calls.phase = "backward"
                loss.backward()
                meshes.end_backward(reference)
            time.sleep(LETTING_GO)
            watched.append(watch)
            held.append(watch.now)
            calls.phase = "step"
            with record_function(f"step {turn}"), recording:
                optimizer.step()
            optimizer.zero_grad(set_to_none=not keeping.holds)
            losses.append(float(part_of(loss.detach())))
            del loss
    least = min(range(STEPS, STEPS + RECORDED), key=lambda turn: watched[turn].most)
    # What a stretch begins with says nothing: gloo's copies are not all in the record.
    (before, passes), (kept, step) = (peak_within(record, f"{name} {least}") for name in ("passes", "step"))
    mean, ranks = torch.tensor(losses[:STEPS]), plan.dp * plan.tp
    torch.distributed.all_reduce(mean)
    return Seen(
        parameters=sum(part_of(p).numel() for p in reference.parameters()),
        saved=watched[least].saved,
        routed=watched[STEPS - 1].saved,
        passes=passes - before + watched[least].before,
        tensors=watched[least].most,
        step=step - kept + held[least],
        losses=[float(n) / ranks for n in mean],
        alone=alone,
        issued=calls.found,
    )


class _Watch:
    """Counts what autograd saves in a forward pass, and all tensors that are there in both passes."""

    def __init__(self, reference: Any, optimizer: Any, given: list[Any]) -> None:
        from torch.autograd.graph import saved_tensors_hooks

        self.reference, self.saved = reference, 0
        weights = list(reference.parameters())
        grads = [weight.grad for weight in weights if weight.grad is not None]
        state = [x for kept in optimizer.state.values() for x in kept.values() if hasattr(x, "untyped_storage")]
        held = [part_of(x) for x in (*given, *weights, *reference.buffers(), *state, *grads)]
        self._storages: dict[int, Any] = {}
        self._hooks = saved_tensors_hooks(self._pack, lambda x: x)
        self._living = living(held)
        self.before = sum({id_of(x): x.untyped_storage().nbytes() for x in held}.values())

    @property
    def now(self) -> int:
        """Bytes of all tensors that are there."""
        found: int = self._living.now
        return found

    @property
    def most(self) -> int:
        """Bytes of all tensors, at most."""
        found: int = self._living.most
        return found

    def _pack(self, x: Any) -> Any:
        here = part_of(x)
        self._storages[id_of(here)] = here.untyped_storage()
        return x

    def forward_ends(self) -> None:
        """Weights that are gathered still are no part of what was saved, and those of layers are gone."""
        self._hooks.__exit__(None, None, None)
        weights = {id_of(part_of(p)) for p in self.reference.parameters()}
        self.saved = sum(storage.nbytes() for key, storage in self._storages.items() if key not in weights)
        self._storages.clear()

    def __enter__(self) -> None:
        self._living.__enter__()
        self._hooks.__enter__()

    def __exit__(self, *error: object) -> None:
        self._living.__exit__(*error)


if __name__ == "__main__":
    json.dump(_serve(json.load(sys.stdin)), sys.stdout)
