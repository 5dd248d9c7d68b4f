"""LongCat-Flash's parts: experts without weights, branches that join at the end of a layer, latents that are scaled."""

import math

import pytest
from command import ask

from archcalc.counts.activations import cache
from archcalc.counts.flops import flops
from archcalc.counts.parameters import params
from archcalc.counts.touched import touched
from archcalc.huggingface.importing import import_config
from archcalc.proof.witness import prove
from archcalc.spec.model import Model
from archcalc.tape.run import Run

torch = pytest.importorskip("torch")

B, S, D, N, Z, J, F = 2, 7, 12, 6, 3, 3, 10
NORM = {"kind": "rmsnorm"}
EXPERTS = {
    "kind": "experts",
    "n_experts": N,
    "n_experts_per_token": J,
    "n_identity": Z,
    "d_ff": F,
    "gated": True,
    "activation": "silu",
    "router": {"scores": "softmax", "normalized": False, "correction": True, "scale": 6.0},
}
LATENT = {
    "kind": "latent",
    "n_heads": 3,
    "q_rank": 9,
    "kv_rank": 8,
    "d_nope": 6,
    "d_rope": 4,
    "d_value": 5,
    "bias": False,
    "norm": NORM,
    "rank_scale": True,
}
MLP = {"kind": "gated", "d_ff": 16, "activation": "silu", "bias": False}


def branch(name, mixer, **more):
    return {"name": name, "norm": NORM, "mixer": mixer, **more}


def spec(*branches, repeat=2):
    return Model.model_validate(
        {
            "schema": 0,
            "name": "cat",
            "source": "this test",
            "vocab_size": 40,
            "context_length": 16,
            "d_model": D,
            "embedding": {"positions": "none"},
            "layers": [{"repeat": repeat, "branches": [*branches]}],
            "final_norm": NORM,
            "unembedding": {"tied": False, "bias": False},
        }
    )


def of_experts(**changes):
    return spec(branch("experts", {**EXPERTS, **changes}), repeat=1)


def test_parameters_and_flops_by_hand():
    """Of 3 choices among 6 experts with weights and 3 without 2 compute: 3 x 6 / 9."""
    expert, router, rest = 3 * F * D, (N + Z) * D, 2 * 40 * D + 2 * D
    counts = params(of_experts())
    assert counts.stored == rest + N * expert + router
    assert counts.active == rest + 2 * expert + router
    assert flops(of_experts(), Run("prefill", B, S)).forward == B * S * 2 * (2 * expert + router + 40 * D)
    assert touched(of_experts(), 1) == (counts.active - 40 * D, 3 * expert + router + 40 * D + 2 * D)


@pytest.mark.parametrize(("chosen", "identity", "busy"), [(3, 3, 2), (4, 3, 3), (1, 5, 1), (6, 6, 3), (5, 1, 5)])
def test_as_many_compute_as_balanced_routing_says_rounded_up(chosen, identity, busy):
    model = of_experts(n_experts_per_token=chosen, n_identity=identity)
    mixture = model.layers[0].branches[0].mixer
    assert busy == math.ceil(chosen * N / (N + identity))
    assert mixture.computing == (max(chosen - identity, 0), busy, chosen)
    idle = params(model).stored - params(model).active
    assert idle == (N - busy) * 3 * F * D


@torch.no_grad()
def test_an_expert_without_weights_adds_what_it_gets_by_its_weight():
    from archcalc_reference import Transformer

    torch.manual_seed(0)
    ours = Transformer(of_experts()).double().layers[0].branches[0].mixer
    for parameter in ours.parameters():
        parameter.copy_(torch.randn_like(parameter))
    x = torch.randn(B, S, D, dtype=torch.float64)
    ours.correction[-1] += 0.3  # it is chosen often, and counts for no more
    scores = (x @ ours.router.weight.T).softmax(-1)
    chosen = (scores + ours.correction).topk(J).indices
    expected, met = torch.zeros_like(x), set()
    for b in range(B):
        for s in range(S):
            for e in chosen[b, s].tolist():
                made = x[b, s]
                if e < N:
                    gate, up, down = (getattr(ours.experts, name).weight[e] for name in ("gate", "up", "down"))
                    made = down @ (torch.nn.functional.silu(gate @ x[b, s]) * (up @ x[b, s]))
                expected[b, s] += 6 * scores[b, s, e] * made
                met.add(e < N)
    assert met == {False, True}
    assert torch.allclose(ours(x), expected, rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("weighs", ["output", "input"])
def test_none_may_compute_or_all(weighs):
    from archcalc_reference import Transformer

    router = {"scores": "sigmoid", "normalized": True, "correction": True, "weighs": weighs}
    ours = Transformer(of_experts(router=router)).double().layers[0].branches[0].mixer
    for parameter in ours.parameters():
        parameter.copy_(torch.randn_like(parameter))
    x = torch.randn(1, 2, D, dtype=torch.float64)
    ours.correction[N:] = 5.0
    assert torch.allclose(ours(x), x)  # weights that are normalized sum to 1
    ours.correction[N:] = -5.0
    assert not torch.allclose(ours(x), x)


@torch.no_grad()
def test_a_branch_that_joins_at_the_end_is_read_by_none_before():
    from archcalc_reference import Transformer
    from archcalc_reference.model.positions import Positions

    plain = {"kind": "plain", "d_ff": 8, "activation": "relu", "bias": False}
    model = spec(
        branch("late", plain, joins="end", scale=0.5),
        branch("one", plain, norm="shared"),
        branch("two", plain),
        repeat=1,
    )
    layer = Transformer(model).double().layers[0]
    x = torch.randn(1, 5, D, dtype=torch.float64)

    def mlp(branch, x):
        return torch.relu(x @ branch.mixer.up.weight.T) @ branch.mixer.down.weight.T

    def normed(x):
        return torch.nn.functional.rms_norm(x, (D,), eps=1e-6)

    late, one, two = layer.branches
    y = x + mlp(one, normed(x))
    y = y + mlp(two, normed(y)) + 0.5 * mlp(late, normed(x))
    assert torch.allclose(layer(x, None, Positions(0, 5, "math", 8, x)), y, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stream_norm": NORM}, "it can have no stream_norm"),
        ({"residual_scale": 2.0}, "it can have no residual_scale"),
        ({"residual": "normed"}, "residual must be input"),
    ],
)
def test_what_joins_at_the_end_changes_nothing_before(changes, words):
    with pytest.raises(ValueError, match=f"branch late joins at the end: {words}"):
        spec(branch("late", MLP, joins="end", **changes), branch("next", MLP))


def test_the_last_branch_and_branches_side_by_side_join_at_once():
    with pytest.raises(ValueError, match="branch late joins at the end: another branch must follow"):
        spec(branch("late", MLP, joins="end"))
    data = spec(branch("one", MLP), branch("two", MLP)).model_dump()
    data["layers"][0]["parallel"], data["layers"][0]["branches"][0]["joins"] = True, "end"
    with pytest.raises(ValueError, match="the branches must not be parallel"):
        Model.model_validate(data)


def test_a_vector_along_the_way_is_joined_at_the_end():
    from archcalc_reference import Transformer
    from archcalc_reference.model.journey import vector_along

    model = spec(branch("late", MLP, joins="end"), branch("one", LATENT), branch("two", MLP))
    reference = Transformer(model)
    found = [along.place for along in vector_along(reference, [1, 2, 3], 1)]
    assert found == [
        *("token", "embedding"),
        *(f"layers.{i}.{name}" for i in range(2) for name in ("one", "two", "late")),
        "final_norm",
    ]


def test_groups_of_experts_have_no_experts_without_weights_among_them():
    with pytest.raises(ValueError, match="n_identity"):
        of_experts(n_groups=3, n_groups_chosen=2)


@pytest.mark.prove  # in each run its logits are those of transformers: test_families
def test_a_layer_of_longcat_is_what_the_reference_is():
    model = spec(
        branch("attention_0", LATENT),
        branch("experts", EXPERTS, joins="end"),
        branch("mlp_0", MLP, norm="shared"),
        branch("attention_1", LATENT),
        branch("mlp_1", MLP),
    )
    assert not [check.what for check in prove(model).checks if not check.equal]


def test_the_defaults_are_longcat_flash():
    """Meituan LongCat Team 2025, arXiv:2509.01322: 560B parameters, 18.6B to 31.3B of them for a token, 27B on average.

    The figures are cut, not rounded, and leave the input embedding out. transformers' class has 741,053,585,408: its gate
    and up projections have 28 layers x 256 experts x 2 x 2,048 x 6,144 more, which nothing reads.
    """
    model = Model.model_validate(import_config({"model_type": "longcat_flash"}, "config.json").data)
    counts, expert = params(model), 28 * 3 * 2048 * 6144
    assert counts.stored == 741_053_585_408 - 28 * 256 * 2 * 2048 * 6144 == 560_664_958_976
    assert counts.stored // 10**9 == 560
    inner = [counts.active_inner + n * expert for n in (-8, 0, 4)]
    assert [n // 10**8 for n in inner] == [186, 271, 313]
    assert cache(model, Run("decode", 1, context=1), 2) == 28 * 2 * 576 * 2  # two attentions a layer: 512 + 64 numbers


def test_every_result_says_that_routing_is_balanced(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "longcat_flash", "num_layers": 2}')
    words = "balanced routing (modelled): of a token's 12 experts 8 compute on average, and the others hand on what they get"
    for command in ("params", "flops", "memory"):
        answer = ask(command, str(path))
        assert words in " ".join(answer.out.split())
        assert words in ask(command, str(path), "-f", "json").json["assumptions"]
    assert "0 of a token's experts compute, " in " ".join(ask("params", str(path)).out.split())
    assert "balanced" not in ask("params", "mixtral-8x7b").out
