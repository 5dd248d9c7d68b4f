"""The collectives that PyTorch's own tensor parallelism and FSDP2 issue, on a process group that only looks like one."""

from collections import Counter
from contextlib import contextmanager
from importlib.metadata import version
from math import prod

import pytest
from variants import LAYERNORM, plain, spec

from archcalc.counts.collectives import collectives
from archcalc.plan.description import Plan
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run

torch = pytest.importorskip("torch", reason="PyTorch is the witness")
EXPERTS = {
    "kind": "experts",
    "n_experts": 3,
    "n_experts_per_token": 2,
    "d_ff": 40,
    "gated": False,
    "activation": "relu",
    "router": {"scores": "softmax_of_chosen", "normalized": False, "bias": False},
}
LACKS = f"PyTorch {version('torch')} has no fake process groups, DTensor or FSDP2 where 2.13 has them"
fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg", reason=LACKS)
parallel = pytest.importorskip("torch.distributed.tensor.parallel", reason=LACKS)
fsdp = pytest.importorskip("torch.distributed.fsdp", reason=LACKS)

from torch import nn  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

BATCH, SEQUENCE, D, HEADS, D_HEAD, D_FF, VOCABULARY, LAYERS = 2, 8, 16, 4, 6, 40, 22, 3
RUN = Run(batch=BATCH, sequence=SEQUENCE)

_OPERATIONS = {
    "all_reduce": "all-reduce",
    "all_gather_into_tensor": "all-gather",
    "_allgather_base_": "all-gather",
    "reduce_scatter_tensor": "reduce-scatter",
    "_reduce_scatter_base_": "reduce-scatter",
}


def model(**changes):
    heads = {"kind": "multi_head", "n_heads": HEADS, "n_kv_heads": HEADS, "d_head": D_HEAD, "bias": True}
    group = {"repeat": LAYERS, "norm": LAYERNORM, "attention": heads, "mlp": plain(d_ff=D_FF), **changes}
    sizes = {"vocab_size": VOCABULARY, "context_length": SEQUENCE, "d_model": D}
    return Model.model_validate(spec(group, final_norm=LAYERNORM, **sizes))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(D, HEADS * D_HEAD) for _ in range(3))
        self.output = nn.Linear(HEADS * D_HEAD, D)

    def forward(self, x):
        q, k, v = (part(x).unflatten(-1, (-1, D_HEAD)).transpose(1, 2) for part in (self.query, self.key, self.value))
        mixed = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.output(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(D, D_FF), nn.Linear(D_FF, D)

    def forward(self, x):
        return self.down(nn.functional.gelu(self.up(x)))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(D), nn.LayerNorm(D)
        self.attention, self.mlp = Attention(), MLP()

    def forward(self, x):
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.norm = nn.Embedding(VOCABULARY, D), nn.LayerNorm(D)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.head = nn.Linear(D, VOCABULARY, bias=False)

    def forward(self, tokens):
        x = self.table(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)).clone()


@contextmanager
def ranks(n):
    """Rank 0 of a group whose other ranks are not there: collectives are called and do nothing."""
    torch.distributed.init_process_group("fake", rank=0, world_size=n, store=fake.FakeStore())
    try:
        yield torch.distributed.init_device_mesh("cpu", (n,))
    finally:
        torch.distributed.destroy_process_group()


class Told(TorchDispatchMode):
    """Every collective by operation and by the numbers of the whole tensor."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any("DTensor" in kind.__name__ for kind in types):
            return NotImplemented
        name = func._schema.name.partition("::")[2]
        if func.namespace in ("c10d", "_c10d_functional") and name in _OPERATIONS:
            sizes = [prod(x.shape) for x in tree_leaves(args) if isinstance(x, torch.Tensor)]
            if name == "all_gather_into_tensor":  # which is given a part, and how many there are
                sizes = [sizes[0] * args[1]]
            self.found[_OPERATIONS[name], max(sizes)] += 1
        return func(*args, **(kwargs or {}))


def told(forward):
    """What a forward pass and its backward pass exchange, each apart."""
    with Told() as there:
        y = forward()
    loss = (y.to_local() if hasattr(y, "to_local") else y).sum()
    with Told() as back:
        loss.backward()
    return {"forward": there.found, "backward": back.found}


def counted(plan, *, layers, **chosen):
    """The same as counted, in fp32: of the layers, which all are alike, those of one."""
    found = {"forward": Counter(), "backward": Counter()}
    for one in collectives(model().record(RUN), plan, Keeping("fp32")):
        in_layers = "layers.{i}" in one.tensor
        if in_layers == layers and all(getattr(one, name) in values for name, values in chosen.items()):
            phase = "forward" if one.phase == "forward" else "backward"
            found[phase][one.operation, one.bytes // 4] += one.count // (LAYERS if layers else 1)
    return found


@pytest.mark.parametrize("n", [2, 4])
def test_tensor_parallel_layers_reduce_twice_each_way(n):
    """What query, key and value read is handed to them once; else PyTorch reduces the gradients of each by itself."""
    column, row = parallel.ColwiseParallel, parallel.RowwiseParallel
    replicate = torch.distributed.tensor.Replicate()
    once = parallel.PrepareModuleInput(input_layouts=(replicate,), desired_input_layouts=(replicate,))
    styles = {f"attention.{name}": column() for name in ("query", "key", "value")}
    styles |= {"mlp.up": column(), "attention.output": row(), "mlp.down": row(), "attention": once, "mlp": once}
    with ranks(n) as mesh:
        layer = parallel.parallelize_module(Layer(), mesh, styles)
        x = torch.randn(BATCH, SEQUENCE, D, requires_grad=True)
        seen = told(lambda: layer(x))
    assert seen == counted(Plan(tp=n), layers=True, axis=("tp",), phase=("forward", "backward"))
    assert seen["forward"] == seen["backward"] == {("all-reduce", BATCH * SEQUENCE * D): 2}


@pytest.mark.parametrize("n", [2, 4])
def test_sequence_parallel_layers_gather_and_scatter_twice_each_way(n):
    """PyTorch keeps gathered inputs for the backward pass."""
    column, row, norm = parallel.ColwiseParallel, parallel.RowwiseParallel, parallel.SequenceParallel
    cut, replicate = torch.distributed.tensor.Shard(1), torch.distributed.tensor.Replicate()
    gathered = parallel.PrepareModuleInput(input_layouts=(cut,), desired_input_layouts=(replicate,))
    styles = {f"attention.{name}": column() for name in ("query", "key", "value")}
    styles |= {
        "mlp.up": column(),
        "attention": gathered,
        "mlp": gathered,
        "attention_norm": norm(),
        "mlp_norm": norm(),
    }
    styles |= {name: row(output_layouts=cut) for name in ("attention.output", "mlp.down")}
    with ranks(n) as mesh:
        layer = parallel.parallelize_module(Layer(), mesh, styles)
        x = torch.randn(BATCH, SEQUENCE // n, D, requires_grad=True)
        seen = told(lambda: layer(x))
    plan = Plan(tp=n, sequence_parallel=True, gathered_inputs="kept")
    assert seen == counted(plan, layers=True, axis=("tp",), phase=("forward", "backward"))
    assert seen["forward"] == {("all-gather", BATCH * SEQUENCE * D): 2, ("reduce-scatter", BATCH * SEQUENCE * D): 2}


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("n", [2, 4])
def test_fsdp2_gathers_layers_twice_and_what_is_outside_once(n):
    """Rows of each tensor are cut, so that with 4 ranks the 22 of the table are padded to 24."""
    with ranks(n) as mesh:
        whole = Whole()
        for layer in whole.layers:
            fsdp.fully_shard(layer, mesh=mesh)
        fsdp.fully_shard(whole, mesh=mesh)
        tokens = torch.zeros(BATCH, SEQUENCE, dtype=torch.long)
        seen = told(lambda: whole(tokens))
    assert seen == counted(Plan(dp=n, zero=3, sharding="per-tensor"), layers=False)
    one = sum(p.numel() for p in Layer().parameters())
    rows = -(-VOCABULARY // n) * n
    assert seen["forward"] == {("all-gather", one): LAYERS, ("all-gather", (2 * rows + 2) * D): 1}


def reduced_behind(model, branch):
    """What is counted as reduced behind a branch over two tensor-parallel ranks: pass, tensor and numbers."""
    found = collectives(model.record(RUN), Plan(tp=2), Keeping("fp32"))
    names = [(one, one.tensor.removeprefix("layers.{i}.")) for one in found if one.phase != "forward"]
    return {(one.phase, name, one.bytes // 4) for one, name in names if name.startswith(branch)}


def drawn(*sizes):
    """In double precision: how single precision rounds a sum differs from CPU to CPU."""
    return torch.randn(*sizes, dtype=torch.float64)


def parts_of_gradients(made, copies, x):
    """The gradients of copies of weights, and of x, on each rank, where what the ranks make is added up forward."""
    ours = [[w.clone().requires_grad_() for w in (*copies, x)] for _ in made]
    sum(make(*mine) for make, mine in zip(made, ours, strict=True)).pow(2).sum().backward()
    return [[w.grad for w in mine] for mine in ours]


def heads(x, q, k, v, o):
    """What some query heads of one key/value head find in x, projected back."""
    queries = (x @ q.T).unflatten(-1, (-1, D_HEAD)).transpose(-2, -3)
    probabilities = (queries @ (x @ k.T).transpose(-1, -2)[:, None]).softmax(-1)
    return (probabilities @ (x @ v.T)[:, None]).transpose(-2, -3).flatten(-2) @ o.T


def test_gradients_of_copies_add_up_to_those_of_the_whole():
    """4 query heads that share a key/value head are on 2 ranks, both of which have keys and values: what each gets as
    their gradients, and as that of x, is a part, so that weights are reduced once and nothing between.
    """
    torch.manual_seed(0)
    x, q = drawn(BATCH, SEQUENCE, D), drawn(HEADS * D_HEAD, D) / 4
    (k, v), o = (drawn(D_HEAD, D) / 4 for _ in range(2)), drawn(D, HEADS * D_HEAD) / 4
    cuts = [slice(0, HEADS * D_HEAD // 2), slice(HEADS * D_HEAD // 2, None)]
    whole = parts_of_gradients([lambda k, v, x: heads(x, q, k, v, o)], (k, v), x)[0]
    ranked = parts_of_gradients(
        [lambda k, v, x, cut=cut: heads(x, q[cut], k, v, o[:, cut]) for cut in cuts], (k, v), x
    )
    for alone, *parts in zip(whole, *ranked, strict=True):
        torch.testing.assert_close(sum(parts), alone)
        assert not torch.allclose(parts[0], alone)
    layer = {"n_kv_heads": 1, "n_heads": HEADS, "d_head": D_HEAD, "kind": "multi_head", "bias": False}
    reduced = reduced_behind(model(attention=layer), "attention")
    assert reduced == {
        ("gradients", "attention.key.weight", k.numel()),
        ("gradients", "attention.value.weight", v.numel()),
        ("backward", "attention_norm.normed", x.numel()),
    }


def test_gradients_of_routers_add_up_where_each_expert_is_cut():
    """Two ranks have half of the hidden features of all experts, and the same router."""
    torch.manual_seed(0)
    x, router = drawn(BATCH * SEQUENCE, D), drawn(3, D)
    up, down = drawn(3, D_FF, D) / 4, drawn(3, D, D_FF) / 4

    def mix(router, x, cut=slice(None)):
        scores, chosen = (x @ router.T).topk(2)
        hidden = torch.einsum("tjfd,td->tjf", up[chosen][:, :, cut], x).relu()
        made = torch.einsum("tjdf,tjf->tjd", down[chosen][..., cut], hidden)
        return (made * scores.softmax(-1)[..., None]).sum(1)

    cuts = [slice(0, D_FF // 2), slice(D_FF // 2, None)]
    whole = parts_of_gradients([mix], (router,), x)[0]
    ranked = parts_of_gradients([lambda router, x, cut=cut: mix(router, x, cut) for cut in cuts], (router,), x)
    for alone, *parts in zip(whole, *ranked, strict=True):
        torch.testing.assert_close(sum(parts), alone)
        assert not torch.allclose(parts[0], alone)
    reduced = reduced_behind(model(mlp=EXPERTS), "mlp")
    assert reduced == {
        ("gradients", "mlp.router.weight", router.numel()),
        ("backward", "mlp_norm.normed", x.numel()),
    }
