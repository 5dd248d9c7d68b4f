"""Every rule of lint has a spec that trips it, at the right place, one that nearly does, and its source."""

from pathlib import Path

import pytest
from hypothesis import given, strategies

from archcalc import strategies as st
from archcalc.checks.lint import figures, plans, sizes, tiles
from archcalc.checks.lint.every import LINT, RULES
from archcalc.checks.linting import ALL, excused, lint, looked, looking
from archcalc.checks.rules import FIGURE, UNUSED, WEIGHTS, chosen
from archcalc.checks.subject import Aim, Subject
from archcalc.counts.parameters import params
from archcalc.errors import Invalid
from archcalc.hardware.devices import device_names, find_device
from archcalc.plan.description import Plan
from archcalc.plan.rules import Broken
from archcalc.spec.catalogue import find, names, specs_folder

GOOD = """\
schema: 0
name: own
source: "a paper, Table 1"
vocab_size: 32000
context_length: 4096
d_model: 1024
embedding: {positions: none}
layers:
  - repeat: 8
    norm: {kind: rmsnorm}
    attention:
      kind: multi_head
      n_heads: 16
      n_kv_heads: 8
      d_head: 64
      bias: false
      rotary: {d_rotary: 64, theta: 10000}
    mlp: {kind: gated, d_ff: 2816, activation: silu, bias: false}
final_norm: {kind: rmsnorm}
unembedding: {tied: true, bias: false}
"""
EXPERTS = (
    "mlp: {kind: gated, d_ff: 2816, activation: silu, bias: false}",
    "mlp: {kind: experts, n_experts: 8, n_experts_per_token: 2, d_ff: 1408, gated: true, activation: silu, "
    "router: {scores: softmax, normalized: true}}",
)
LATENT = (
    GOOD[GOOD.index("      kind: multi") : GOOD.index("    mlp:")],
    "      {kind: latent, n_heads: 8, q_rank: 512, kv_rank: 256, d_nope: 64, d_rope: 64, d_value: 64, bias: false, "
    "norm: {kind: rmsnorm}, rotary: {d_rotary: 64, theta: 10000}}\n",
)
SCALED = "theta: 10000, scaling: {%s}}"
YARN = ("theta: 10000}", SCALED % "kind: yarn, factor: 4, original_context_length: 1024")
DYNAMIC = ("theta: 10000}", SCALED % "kind: dynamic, factor: 4, original_context_length: 1024")
STATES = """{kind: mamba, d_inner: 2048, d_state: 16, d_conv: 4, step_rank: 64, activation: silu, bias: false,
      conv_bias: true, norm: null}
"""
WIDTH = 2 * 1024 * 1024 + 2 * 1024 * 512 + 3 * 1024 * 2816
"""The matrices of a layer of GOOD: queries and output, keys and values, and three of the MLP."""
STORED = 32_000 * 1024 + 8 * (WIDTH + 2 * 1024) + 1024


def published(text, **fields):
    said = ", ".join(f"{name}: {value}" for name, value in fields.items())
    return (
        "unembedding: {tied: true, bias: false}\n",
        f'unembedding: {{tied: true, bias: false}}\npublished:\n  - {{text: "{text}", {said}, source: "Table 2"}}\n',
    )


def on(device="a100-80gb", **plan):
    """A project that means to run its specs on a device, by a plan."""
    return Aim([find_device(device)], [("own", Plan(**plan))])


def write(folder, *changes):
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "own.yaml"
    path.write_text(text)
    return path


# rule: the changes of GOOD that trip it, what is aimed at, the text at which it stands, and words of what is said;
# then changes that nearly trip it.
TRIPS = {
    "AC110": (
        [("32000", "50257")], None, "50257", "is odd, not a multiple of 64: this is a size of the head's matrix, and tensor cores are used in full",
        [[("32000", "50304")], [("32000", "259")]],
    ),
    "AC111": (
        [("d_head: 64", "d_head: 80"), ("n_heads: 16", "n_heads: 16")], None, "80",
        "is a multiple of 16, not of 64: scores and what they mix are products over a head's features, and tensor "
        "cores are used in full at multiples of 64 (A100, 16 bits); FlashAttention computes with 96, of which 17% are",
        [[("d_head: 64", "d_head: 128")], [("d_head: 64", "d_head: 40"), ("d_rotary: 64", "d_rotary: 32")]],
    ),
    "AC112": (
        [("2816", "2730")], None, "2730", "is a multiple of 2, not of 64: this is a size of the MLP's matrices",
        [[("2816", "2752")], [("2816", "60")]],
    ),
    "AC113": (
        [("d_model: 1024", "d_model: 1000")], None, "1000\n",
        "is a multiple of 8, not of 64: this is a size of every matrix beside the residual stream", [[("d_model: 1024", "d_model: 960")]],
    ),
    "AC114": (
        [("n_heads: 16", "n_heads: 15"), ("n_kv_heads: 8", "n_kv_heads: 5"), ("d_head: 64", "d_head: 72")], None, "15",
        "n_heads x d_head (1,080) is a multiple of 8, not of 64", [[("d_head: 64", "d_head: 72")]],
    ),
    "AC115": (
        [("2816", "4096"), ("context_length: 4096", "context_length: 1024")], on(), "4096",
        # 1024 / 256 x 4096 / 128 = 128 tiles of the 216 of two rounds
        "1,024 rows x 4,096 features (plan own) are 128 tiles of 256 x 128, 2 rounds over the 108 processors of "
        "a100-80gb, of which 41% are idle",
        [
            [("context_length: 4096", "context_length: 1024")],
            [("2816", "4096")],
            [("2816", "1536"), ("context_length: 4096", "context_length: 1024")],  # 48 tiles: a smaller one spreads them
        ],
    ),
    "AC120": (
        [("n_heads: 16", "n_heads: 12"), ("n_kv_heads: 8", "n_kv_heads: 4")], on(tp=8), "kind: multi_head",
        "plan own: tp must divide n_heads (12); got 8; nearest: 2 or 4", [[]],
    ),
    "AC121": ([("repeat: 8", "repeat: 9")], on(pp=4), "- repeat", "plan own: pp must divide n_layers (9); got 4", [[]]),
    "AC122": (
        [(EXPERTS[0], EXPERTS[1].replace("n_experts: 8", "n_experts: 6"))], on(dp=4, ep=4), "{kind: experts",
        "plan own: ep must divide n_experts (6); got 4", [[EXPERTS]],
    ),
    "AC123": (
        [("context_length: 4096", "context_length: 4100")], on(cp=8), "4100",
        "plan own: sequence must be a multiple of cp (8); got 4,100; nearest: 4,096 or 4,104", [[]],
    ),
    "AC124": (
        [(GOOD[GOOD.index("\n      kind: multi") : GOOD.index("    mlp:")], " " + STATES)], on(cp=2), "- repeat",
        "plan own: cp is not supported for mamba mixers; got 2", [[]],
    ),
    "AC125": (
        [("n_kv_heads: 8", "n_kv_heads: 2")], on(tp=8), "2\n      d_head",
        "plan own: 8 ranks share 2 key/value heads, so that 4 hold each: their cache is 4 times the model's in all",
        [[]],
    ),
    "AC126": (
        [("2816", "11008")], on(tp=8), "11008",
        "plan own: each of 8 ranks has 1,376 hidden features, which is a multiple of 32, not of 64; got 11,008; a "
        "multiple of 512 gives each rank a multiple of 64", [[("2816", "3072")], [("2816", "2720")]],
    ),
    "AC130": (
        [YARN, ("context_length: 4096", "context_length: 8192")], None, "4, original",
        "context_length is 8,192; the scaling reaches 4 x 1,024 = 4,096 positions; got 4; 8 reaches 8,192", [[YARN]],
    ),
    "AC131": (
        [DYNAMIC, ("context_length: 4096", "context_length: 1024")], None, "1024}",
        "is not below context_length (1,024): the scaling for longer texts never applies", [[DYNAMIC]],
    ),
    "AC132": (
        [("      bias: false\n", "      bias: false\n      window: 4096\n")], None, "4096\n      rotary",
        "is not below context_length (4,096): every query sees all positions before it",
        [[("      bias: false\n", "      bias: false\n      window: 4095\n")]],
    ),
    "AC133": (
        [("      rotary: {d_rotary: 64, theta: 10000}\n", "")], None, "{positions",
        "no part knows the order of positions",
        [
            [("      rotary: {d_rotary: 64, theta: 10000}\n", "      alibi: true\n")],
            [("positions: none", "positions: learned"), ("      rotary: {d_rotary: 64, theta: 10000}\n", "")],
            [(GOOD[GOOD.index("\n      kind: multi") : GOOD.index("    mlp:")], " " + STATES)],
        ],
    ),
    "AC134": (
        [("positions: none", "positions: learned")], None, "kind: multi_head",
        "embedding.positions is learned, and attention has positions of its own", [[]],
    ),
    "AC135": (
        [("d_rotary: 64", "d_rotary: 24")], None, "24,", "is not a multiple of 16: FlashAttention's kernel with a cache",
        [[("d_rotary: 64", "d_rotary: 16")]],
    ),
    "AC140": (
        [("name: own", "name: own-160m")], None, "own-160m",
        f"says 160m; the model has {STORED:,} parameters (-20.53%)",
        [
            [("name: own", "name: own-127m")],
            [("name: own", "name: own-0.1b")],
            [("name: own", "name: own-94m")],  # without the token table
            [("name: own", "name: own-v7-chat")],
        ],
    ),
    "AC141": (
        [published("160M", parameters=160_000_000, status="nominal")], None, "160000000",
        f"is nominal, and far from the count of {STORED:,} (-20.53%); got 160,000,000",
        [[published("120M", parameters=120_000_000, status="nominal")]],
    ),
    "AC142": (
        [('"a paper, Table 1"', "TODO")], None, "TODO", "stands for a source that is missing; got 'TODO'",
        [[('"a paper, Table 1"', "Unknown et al. 2020")], [('"a paper, Table 1"', '"2025-01"')]],
    ),
    "AC143": (
        [published("114M", parameters=114_000_000, status="counted")], None, "{text",
        "'114M' prints 3 digits, and all digits of it must hold; digits: 3",
        [
            [published("114M", parameters=114_000_000, digits=3, status="counted")],
            [published(f"{STORED:,}", parameters=STORED, status="counted")],
        ],
    ),
    "AC144": (
        [published("114M", parameters=113_000_000, digits=3, status="counted")], None, "113000000",
        "is not what its text says, '114M'; got 113,000,000; 114,000,000",
        [[published("110M and 4M", parameters=114_000_000, digits=3, status="counted")]],
    ),
    "AC150": (
        [("n_heads: 16", "n_heads: 128")], None, "128",
        "n_heads x d_head is 128 x 64 = 8,192, 8 times d_model (1,024); got 128; d_model / d_head is 16",
        [[("n_heads: 16", "n_heads: 64")], [("n_heads: 16", "n_heads: 8")]],
    ),
    "AC151": (
        [(EXPERTS[0], EXPERTS[1].replace("n_experts_per_token: 2", "n_experts_per_token: 8"))], None, "8, d_ff",
        "is all of n_experts: the router chooses nothing", [[EXPERTS]],
    ),
}  # fmt: skip
MORE = {
    "d_nope + d_rope (80) is a multiple of 16, not of 64": (
        "AC111", [LATENT, ], ("d_nope: 64, d_rope: 64", "d_nope: 48, d_rope: 32"), ("d_rotary: 64, theta", "d_rotary: 32, theta"),
    ),
    "is a multiple of 4, not of 64: this is a size of the projections to it and from it": ("AC114", [LATENT], ("q_rank: 512", "q_rank: 500")),
}  # fmt: skip


LONG = SCALED % (
    f"kind: longrope, short_factor: {[1.0] * 32}, long_factor: {[2.0] * 32}, original_context_length: 2048, factor: 1.5"
)
USED = "and tensor cores are used in full at multiples of 64 (A100, 16 bits)"
FURTHER = {
    "odd features of a head": (
        "AC111", [("d_head: 64", "d_head: 33"), ("d_rotary: 64", "d_rotary: 32")], None,
        ["is odd, not a multiple of 8: scores and what they mix are products over a head's features, and tensor cores are "
         "used in full at multiples of 8 (V100, 16 bits); FlashAttention computes with 64, of which 48% are zeros; got 33; "
         "nearest: 32 or 40"],
    ),
    "features beyond FlashAttention's": (
        "AC111", [("d_head: 64", "d_head: 160")], None,
        ["is a multiple of 32, not of 64: scores and what they mix are products over a head's features, and tensor cores are "
         "used in full at multiples of 64 (A100, 16 bits); got 160; nearest: 128 or 192"],
    ),
    "an expert's": (
        "AC112", [(EXPERTS[0], EXPERTS[1].replace("1408", "1400"))], None,
        ["is a multiple of 8, not of 64: this is a size of each expert's matrices, and tensor cores are used in full at "
         "multiples of 64 (A100, 16 bits); got 1,400; nearest: 1,344 or 1,408"],
    ),
    "padded to 64 and to 128": (
        "AC110", [("32000", "32001")], None,
        ["is odd, not a multiple of 64: this is a size of the head's matrix, and tensor cores are used in full at multiples "
         "of 64 (A100, 16 bits); got 32,001; 32,064 is the next multiple of 64"],
    ),
    "and of 128": (
        "AC110", [("32000", "32065")], None,
        ["is odd, not a multiple of 64: this is a size of the head's matrix, and tensor cores are used in full at multiples "
         "of 64 (A100, 16 bits); got 32,065; 32,128 is the next multiple of 64 (and of 128)"],
    ),
    "a quarter of the work": (
        # 512 / 256 x 10,368 / 128 = 162 tiles; 162 / (2 x 108) = 3/4
        "AC115", [("2816", "20736"), ("context_length: 4096", "context_length: 1024")], on(tp=2, cp=2, micro_batch=1),
        ["512 rows x 10,368 features on each of 2 ranks (plan own) are 162 tiles of 256 x 128, 2 rounds over the 108 "
         "processors of a100-80gb, of which 25% are idle; got 20,736; 216 tiles fill 2 rounds: change d_ff or micro_batch"],
    ),
    "ranks that are not the plan's to share": (
        "AC122", [EXPERTS], on(dp=2, tp=4, ep=2, etp=2), ["plan own: etp must be 1 or tp (4); got 2"],
    ),
    "stages of other layers": ("AC121", [], on(pp=2, stage_layers=[3, 4]), ["plan own: stage_layers must sum up to n_layers (8); got 7"]),
    "a rank with less than a tile": (
        "AC126", [("2816", "256")], on(tp=8),
        ["plan own: each of 8 ranks has 32 hidden features, which is less than 64; got 256; a multiple of 512 gives each rank "
         "a multiple of 64"],
    ),
    "a long context": (
        "AC130", [("theta: 10000}", LONG)], None,
        ["context_length is 4,096; the scaling reaches 1.5 x 2,048 = 3,072 positions; got 1.5; 2 reaches 4,096"],
    ),
    "chunks": (
        "AC132", [("      bias: false\n", "      bias: false\n      chunk: 5000\n")], None,
        ["is not below context_length (4,096): every query sees all positions before it; got 5,000; null, or a smaller one"],
    ),
    "a table beside ALiBi": (
        "AC134", [("positions: none", "positions: sinusoidal"), ("      rotary: {d_rotary: 64, theta: 10000}\n", "      alibi: true\n")],
        None, ['embedding.positions is sinusoidal, and attention has positions of its own: the order is told twice; '
               'embedding.positions "none", if the source adds nothing there'],
    ),
    "few features turned": (
        "AC135", [("d_rotary: 64", "d_rotary: 8")], None,
        ["is not a multiple of 16: FlashAttention's kernel with a cache refuses such a size; got 8; nearest: 16"],
    ),
    "two kinds of multiples": (
        "AC135", [("d_rotary: 64", "d_rotary: 40")], None,
        ["is not a multiple of 16: FlashAttention's kernel with a cache refuses such a size; got 40; nearest: 32 or 48"],
    ),
    "narrow heads": (
        "AC150", [("n_heads: 16", "n_heads: 4"), ("n_kv_heads: 8", "n_kv_heads: 4")], None,
        ["n_heads x d_head is 4 x 64 = 256, 0.25 times d_model (1,024); got 4; d_model / d_head is 16"],
    ),
    "all heads together": (
        "AC114", [("n_heads: 16", "n_heads: 15"), ("n_kv_heads: 8", "n_kv_heads: 5"), ("d_head: 64", "d_head: 72")], None,
        [f"n_heads x d_head (1,080) is a multiple of 8, not of 64: this is a size of the projections, {USED}; got 15; nearest: "
         "1,024 or 1,088 features of all heads"],
    ),
    **{
        f"a latent: {old}": (
            "AC114", changes, None,
            [f"is a multiple of 4, not of 64: this is a size of the projections to it and from it, {USED}; got {size:,}; {fix}"],
        )
        for old, size, fix, changes in (
            ("q_rank: 512", 500, "nearest: 448 or 512", [(LATENT[0], LATENT[1].replace("q_rank: 512", "q_rank: 500"))]),
            ("kv_rank: 256", 244, "nearest: 192 or 256", [(LATENT[0], LATENT[1].replace("kv_rank: 256", "kv_rank: 244"))]),
            ("d_latent", 516, "nearest: 512 or 576", [(EXPERTS[0], EXPERTS[1].replace("d_ff: 1408", "d_ff: 1408, d_latent: 516"))]),
            ("d_inner: 2048", 2052, "nearest: 2,048 or 2,112", [
                (GOOD[GOOD.index("\n      kind: multi") : GOOD.index("    mlp:")], " " + STATES.replace("2048", "2052")),
            ]),
        )
    },
    "a token table's own width": (
        "AC113", [("{positions: none}", "{positions: none, d_embedding: 500}"), ("{tied: true", "{d_embedding: 500, tied: true")], None,
        [f"is a multiple of 4, not of 64: this is a size of the token table's projection, {USED}; got 500; nearest: 448 or 512"],
    ),
    "rows of the head alone": (
        "AC110", [("{tied: true, bias: false}", "{tied: false, bias: false, rows: 31999}")], None,
        [f"is odd, not a multiple of 64: this is a size of the head's matrix, {USED}; got 31,999; 32,000 is the next multiple of 64 "
         "(and of 128)"],
    ),
    "ranks with copies": (
        "AC125", [("n_kv_heads: 8", "n_kv_heads: 2")], on(tp=8),
        ["plan own: 8 ranks share 2 key/value heads, so that 4 hold each: their cache is 4 times the model's in all; got 2; "
         "8 or more key/value heads, or tp of at most 2"],
    ),
    "scaling for texts that never come": (
        "AC131", [DYNAMIC, ("context_length: 4096", "context_length: 1024")], None,
        ["is not below context_length (1,024): the scaling for longer texts never applies; got 1,024; remove the scaling, or "
         "correct it"],
    ),
    "a source to be written": (
        "AC142", [('"a paper, Table 1"', "TODO")], None,
        ["stands for a source that is missing; got 'TODO'; name the paper, page or file where it was read"],
    ),
    "a misprint without a source": (
        "AC142", [(
            "final_norm", "misprints: [{field: d_model, printed: '1042', used: '1024', why: two digits are swapped, source: todo}]\nfinal_norm",
        )], None, ["stands for a source that is missing; got 'todo'; name the paper, page or file where it was read"],
    ),
    "more digits than were printed": (
        "AC143", [published("114M", parameters=114_000_000, digits=5, status="counted")], None,
        ["'114M' prints 3 digits, and 5 digits of it must hold; digits: 3"],
    ),
    "all experts": (
        "AC151", [(EXPERTS[0], EXPERTS[1].replace("n_experts_per_token: 2", "n_experts_per_token: 8"))], None,
        ["is all of n_experts: the router chooses nothing, and every token goes through every expert; got 8; fewer, or an MLP in place of experts"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "changes", "aim", "said"), FURTHER.values(), ids=FURTHER)
def test_what_is_said_is_exact(rule, changes, aim, said, tmp_path):
    assert [one.words for one in lint(write(tmp_path, *changes), aim, [rule])] == said


def test_multiples_above_below_and_the_powers_in_them():
    assert [size for size in range(60, 200) if sizes.fits(size)] == [60, 61, 62, 63, 64, 128, 192]
    assert [size for size in range(1, 70) if sizes.fits(size, 8)] == [8, 16, 24, 32, 40, 48, 56, 64]
    assert [sizes.above(size) for size in (1, 63, 64, 65, 128)] == [64, 64, 64, 128, 128]
    assert [sizes.nearest(size) for size in (1, 65, 11_010)] == [
        "nearest: 64",
        "nearest: 64 or 128",
        "nearest: 11,008 or 11,072",
    ]
    assert sizes.said(96) == "is a multiple of 32, not of 64"
    assert sizes.said(64 + 1) == "is odd, not a multiple of 64"
    assert (sizes.said(60), sizes.said(61)) == ("is a multiple of 4, not of 8", "is odd, not a multiple of 8")


@pytest.mark.parametrize(
    ("rows", "columns", "processors", "told"),
    [
        (256, 128, 1, (1, 1, 0.0)),
        (128, 256, 1, (1, 1, 0.0)),
        (257, 128, 2, (2, 1, 1 - 257 / 512)),  # two of 128 x 256 too
        (128, 512, 4, (2, 1, 0.5)),  # and not four of 256 x 128
        (1024, 4096, 108, (128, 2, 1 - 128 / 216)),
    ],
)
def test_tiles_fill_rounds(rows, columns, processors, told):
    assert tiles.rounds(rows, columns, processors) == told


def test_every_rule_is_tripped_here():
    assert list(TRIPS) == [rule.id for rule in LINT]
    assert [*RULES] == sorted({*TRIPS, "AC001", "AC002", "AC003", FIGURE.id, UNUSED.id, WEIGHTS.id})


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_says_why_by_whom_and_what_to_do(rule):
    assert len({*(rule.says, rule.why, rule.source, rule.fix, rule.example)}) == 5
    assert all((rule.says, rule.why, rule.source, rule.fix, rule.example))
    assert rule.name == rule.name.lower()
    assert rule.name not in names()


NAMES = """
AC001 invalid-file error, AC002 over-budget error, AC003 budget-not-evaluated error, AC101 figure-differs error,
AC102 unused-allowance warning, AC103 weights-differ error, AC110 vocabulary-not-padded warning, AC111 head-size-unaligned warning,
AC112 hidden-size-unaligned warning, AC113 width-unaligned warning, AC114 projection-unaligned warning,
AC115 tile-and-wave-quantization warning, AC120 heads-over-ranks error, AC121 layers-over-stages error,
AC122 experts-over-ranks error, AC123 positions-over-ranks error, AC124 plan-unsupported error,
AC125 kv-heads-copied warning, AC126 rank-size-unaligned warning, AC130 context-beyond-scaling warning,
AC131 scaling-without-effect warning, AC132 window-without-effect warning, AC133 no-positions warning,
AC134 positions-twice warning, AC135 rotary-size warning, AC140 name-far-from-count warning,
AC141 nominal-far-from-count warning, AC142 source-missing warning, AC143 digits-not-stated warning,
AC144 figure-unlike-text warning, AC150 heads-far-from-width warning, AC151 all-experts-chosen warning
"""


def test_identifiers_names_and_levels_of_rules_stay():
    """People write them into configurations, baselines and what reads reports."""
    assert [f"{rule.id} {rule.name} {rule.level}" for rule in RULES.values()] == NAMES.strip().replace(
        "\n", " "
    ).split(", ")


def test_the_reason_of_ac115_names_the_devices_that_it_looks_at():
    stated = [name for name in device_names() if find_device(name).processors]
    assert f"of the catalogue {', '.join(stated[:-1])} and {stated[-1]}" in RULES["AC115"].why


def test_a_device_of_one_s_own_may_state_its_processors(tmp_path):
    path = write(tmp_path, ("2816", "5120"), ("context_length: 4096", "context_length: 1024"))
    own = tmp_path / "mine.yaml"
    text = Path(specs_folder(), "hardware", "l4.yaml").read_text()
    own.write_text(f"{text}  processors: its maker\nprocessors: 108\n")
    (one,) = lint(path, Aim([find_device(str(own))], on().plans), ["AC115"])
    assert "160 tiles of 256 x 128, 2 rounds over the 108 processors of l4 (" in one.message


@pytest.mark.parametrize(
    ("device", "processors"),
    [("a100-40gb", 108), ("a100-80gb", 108), ("h100-sxm", 132), ("h200", 132), ("rtx-4090", 128), ("b200", 148)],
)
def test_rounds_are_those_of_the_device(device, processors, tmp_path):
    # 4 x 40 = 160 tiles: 26% of two rounds of 108 are idle, 38% of two of 128, 39% of 132, 46% of 148
    path = write(tmp_path, ("2816", "5120"), ("context_length: 4096", "context_length: 1024"))
    (one,) = lint(path, on(device), ["AC115"])
    assert f"160 tiles of 256 x 128, 2 rounds over the {processors} processors of {device}, of which" in one.message
    assert lint(path, on("l4"), ["AC115"]) == []


def test_what_a_mixer_cannot_do_is_unsupported_and_no_matter_of_sizes():
    def broken(field, what):
        return plans._kind(Broken(field, what, "2"))

    assert [
        broken(field, "must divide n_heads (12)")
        for field in ("tp", "pp", "stage_layers", "ep", "etp", "sequence", "cp")
    ] == [*("AC120", "AC121", "AC121", "AC122", "AC122", "AC123", "AC124")]
    for what in ("is not supported for mamba mixers", "applies only to training"):
        assert {broken(field, what) for field in ("tp", "pp", "ep", "sequence", "zero")} == {"AC124"}


def test_a_plan_that_pages_a_cache_is_held_as_one_of_inference(tmp_path):
    assert lint(write(tmp_path), on(cache_block=16)) == []
    assert lint(write(tmp_path), on(zero=1)) == []
    (one,) = lint(write(tmp_path), on(cache_block=16, zero=1), ["AC124"])
    assert (one.words, one.level) == ("plan own: zero applies only to training; got 1", "error")


def test_no_two_rules_have_one_name():
    assert len({rule.name for rule in RULES.values()}) == len(RULES)


@pytest.mark.parametrize("rule", TRIPS)
def test_a_spec_trips_it_at_its_place(rule, tmp_path):
    changes, aim, where, words, _ = TRIPS[rule]
    path = write(tmp_path, *changes)
    problems = lint(path, aim, [rule])
    assert problems
    problem = problems[0]
    assert problem.rule == rule
    assert problem.level == RULES[rule].level
    assert problem.words.startswith(words), problem.words
    text = path.read_text()
    assert text.count(where) == 1
    at = text.index(where)
    place = (text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))
    assert (problem.line, problem.column) == place, problem
    assert f"own.yaml:{problem.line}:{problem.column}: " in str(problem)
    assert str(problem).endswith(f"[{rule}]")


@pytest.mark.parametrize("rule", TRIPS)
def test_what_was_got_stands_at_the_path_and_what_would_be_right_is_said(rule, tmp_path):
    """A path that led nowhere would be shown at the nearest field that there is, and a reader would look there."""
    changes, aim, *_ = TRIPS[rule]
    for changes_, aim_ in [(changes, aim), *[(case[1], case[2]) for case in FURTHER.values() if case[0] == rule]]:
        path = write(tmp_path, *changes_)
        for problem in lint(path, aim_, [rule]):
            found = find(str(path)).document.data
            for step in problem.path.split("."):
                assert isinstance(found, list) or step in found or step == "digits", problem
                found = found[int(step)] if isinstance(found, list) else found.get(step)
            plans = problem.path == "context_length"  # where what was got may be the plan's
            if isinstance(found, int) and problem.value and not plans:
                assert problem.value == f"{found:,}"
            assert problem.suggestion or rule.startswith("AC12"), problem  # a plan's own rules tell the nearest if any


NEARLY = [(rule, i) for rule, case in TRIPS.items() for i in range(len(case[4]))]


@pytest.mark.parametrize(("rule", "i"), NEARLY)
def test_a_spec_that_is_nearly_so_does_not_trip_it(rule, i, tmp_path):
    _, aim, _, _, (*nearly,) = TRIPS[rule]
    assert lint(write(tmp_path, *nearly[i]), aim, [rule]) == []


def test_a_name_is_the_count_rounded_or_cut_off_or_near_it():
    assert figures.names(7_600_000_000, 2, iter([7_615_616_512]))  # rounded
    assert figures.names(7_000_000_000, 1, iter([7_990_000_000]))  # cut off
    assert not figures.names(7_000_000_000, 1, iter([8_030_261_248]))
    assert figures.names(350_000_000, 2, iter([331_196_416]))  # OPT-350M, 5% below
    assert figures.names(7_000_000_000, 1, iter([8_537_680_896, 7_751_248_896]))  # Gemma 7B without its table


@pytest.mark.parametrize(
    ("text", "value", "digits", "unsure"),
    [("7k", 7_000, 1, False), ("1.5 thousand", 1_500, 2, False), ("2 million", 2 * 10**6, 1, False), ("1t", 10**12, 1, False),
     ("3 trillion", 3 * 10**12, 1, False), ("1_000", 1_000, 4, True), ("1 000 B", 10**12, 4, True), ("0.05M", 50_000, 1, False),
     (" 12 ", 12, 2, False), ("6.7B", 6_700_000_000, 2, False), ("174,600M", 174_600_000_000, 6, True), ("13.0B", 13_000_000_000, 3, False),
     ("124,439,808", 124_439_808, 9, False), ("0.5b", 500_000_000, 1, False), ("20 billion", 20_000_000_000, 2, True)],
)  # fmt: skip
def test_a_number_is_read_as_it_was_printed(text, value, digits, unsure):
    assert figures.printed(text)[:3] == (value, digits, unsure)


@pytest.mark.parametrize("text", ["331.6B + 9.4B", "15B active", "A4B", "about 7B", "1.23456", "0", ""])
def test_what_is_no_number_alone_is_left(text):
    assert figures.printed(text) is None


@pytest.mark.parametrize("text", ["0.5", "0.00B", "1.23456k", "7 bn", "B", "-7B", "7B."])
def test_parts_of_one_and_other_units_are_no_number(text):
    assert figures.printed(text) is None


def test_whether_a_number_has_a_unit_is_known():
    assert [figures.printed(text).abbreviated for text in ("7B", "7 billion", "7,000")] == [True, True, False]


NOTHING = [
    "TODO",
    "tbd",
    "FIXME",
    "xxx",
    "Unknown",
    "none",
    "N/A",
    "null",
    "nil",
    "no",
    "source",
    "no source",
    "TBA",
    "-",
    "(todo)",
    "?",
]


@pytest.mark.parametrize("word", NOTHING)
def test_a_word_for_nothing_is_no_source_and_no_reason(word):
    model = find("gpt2").model.model_copy(update={"source": word, "published": (), "misprints": ()})
    assert [(one.path, one.value) for one in lint(model, select=["AC142"])] == [("source", repr(word))]


def test_a_figure_a_misprint_and_an_allowance_have_sources_and_reasons_too(tmp_path):
    last = GOOD.splitlines(keepends=True)[-1]
    more = (
        'published: [{text: "114M", parameters: 114000000, digits: 3, status: nominal, source: todo}]\n'
        "allow: [{rule: AC142, why: tbd}, {rule: AC110, why: none}]\n"
    )
    path = write(tmp_path, (last, last + more))
    assert lint(path, select=["AC142"]) == []
    path.write_text(path.read_text().replace("{rule: AC142, why: tbd}, ", ""))
    assert [(one.path, one.message) for one in lint(path, select=["AC142"])] == [
        ("published.0.source", "stands for a source that is missing"),
        ("allow.0.why", "stands for a reason that is missing"),
    ]


@pytest.mark.parametrize(
    ("said", "told"), [("own-8x7b", 0), ("own-8x10b", 1), ("own-8x5b", 1), ("own-47b-a13b", 0), ("own-13b-8e", 0)]
)
def test_names_of_models_with_experts(said, told):
    model = find("mixtral-8x7b").model.model_copy(update={"name": said})
    assert len(lint(model, select=["AC140"])) == told
    assert len(lint(model.model_copy(update={"name": "own-47b-a7b"}), select=["AC140"])) == 1
    assert len(lint(model.model_copy(update={"name": "own-1b7"}), select=["AC140"])) == 1


@pytest.mark.parametrize(("said", "told"), [("own-2-1_6b", 0), ("own-1_9b", 1), ("own_1_6b", 0), ("own-8_2b", 0)])
def test_an_underscore_in_a_name_is_a_point_or_parts_a_version(said, told):
    model = find("stablelm2-1.6b").model.model_copy(update={"name": said})
    assert len(lint(model, select=["AC140"])) == told


@given(st.models(), strategies.sampled_from([None, on(tp=2), on(pp=2), on(dp=2, ep=2), on(cp=2)]))
def test_every_rule_looks_at_any_valid_spec(model, aim):
    for problem in lint(model, aim):
        assert problem.rule in RULES
        assert problem.message
        assert problem.level == RULES[problem.rule].level


@pytest.mark.parametrize("words", MORE)
def test_latents_and_their_heads(words, tmp_path):
    rule, changes, *inside = MORE[words]
    path = write(tmp_path, *changes)
    assert lint(path, select=[rule]) == []
    text = path.read_text()
    for old, new in inside:
        text = text.replace(old, new)
    path.write_text(text)
    (problem,) = lint(path, select=[rule])
    assert problem.words.startswith(words)


def test_the_spec_that_is_changed_is_clean(tmp_path):
    path = write(tmp_path)
    assert params(find(str(path)).model).stored == STORED
    assert lint(path, on(tp=4)) == []
    assert lint(find(str(path)).model) == []


def test_the_catalogue_is_clean_and_its_reasons_are_needed():
    found = {name: lint(name) for name in names()}
    assert {name: problems for name, problems in found.items() if problems} == {}


def test_every_reason_of_the_catalogue_silences_something():
    for name in names():
        subject = Subject(find(name))
        rules = looking(subject.aim)
        left, silenced = excused(subject, looked(subject, rules), rules)
        assert left == []
        assert {one.problem.rule for one in silenced} == {entry.rule for entry in subject.model.allow}


def allowed(tmp_path, *entries):
    lines = "".join(f"  - {{rule: {rule}, why: {why}}}\n" for rule, why in entries)
    last = GOOD.splitlines(keepends=True)[-1]
    return write(tmp_path, ("32000", "50257"), (last, f"{last}allow:\n{lines}"))


def test_what_a_spec_allows_is_excused_with_its_reason(tmp_path):
    subject = Subject(find(str(allowed(tmp_path, ("AC110", "as published")))))
    rules = looking(subject.aim)
    left, silenced = excused(subject, looked(subject, rules), rules)
    assert left == []
    ((problem, why, where),) = silenced
    assert (problem.rule, problem.line, why, where) == ("AC110", 4, "as published", "in the spec")
    assert lint(subject) == []


def test_an_entry_that_silences_nothing_is_told(tmp_path):
    path = allowed(tmp_path, ("AC110", "a"), ("AC112", "b"), ("AC110", "c"), ("AC999", "d"))
    problems = lint(path)
    assert [(one.rule, one.line, one.column, one.words.partition(";")[0]) for one in problems] == [
        ("AC102", 23, 5, "the spec does not break AC112 (hidden-size-unaligned)"),
        ("AC102", 24, 5, "AC110 is allowed by an entry before"),
        ("AC102", 25, 5, "AC999 is not a rule"),
    ]
    assert [one.edits[0].path for one in problems] == [("allow", i) for i in (1, 2, 3)]


def test_an_entry_is_told_only_where_its_rule_looked(tmp_path):
    path = allowed(tmp_path, ("AC110", "a"), ("AC125", "b"), ("AC101", "c"))
    assert lint(path) == []  # no plan, no figures and no budgets were looked at
    assert [one.words for one in lint(path, on(tp=2))] == [
        "the spec does not break AC125 (kv-heads-copied); remove the entry"
    ]
    assert lint(path, on(tp=2), ignore=["AC125"]) == []
    assert lint(path, on(tp=2), ignore=["AC102"]) == []
    unused = [("AC110", "a"), ("AC112", "b"), ("AC102", "c")]
    assert lint(allowed(tmp_path, *unused)) == []
    path = allowed(tmp_path, ("AC110", "a"), ("AC125", "b"), ("AC101", "c"))
    subject = Subject(find(str(path)))
    assert [one.rule for one in excused(subject, [], looking(subject.aim))[0]] == ["AC102", "AC102"]


def test_a_spec_excuses_no_budget(tmp_path):
    (one,) = lint(allowed(tmp_path, ("AC002", "please")), select=["AC102"])
    assert (one.rule, one.message) == ("AC102", "a spec cannot excuse AC002 (over-budget)")


def test_rules_are_chosen_by_the_beginnings_of_their_identifiers(tmp_path):
    path = write(tmp_path, ("32000", "50257"), ("2816", "2730"))
    assert [one.rule for one in lint(path)] == ["AC110", "AC112"]
    assert [one.rule for one in lint(path, select=["AC112", "AC13"])] == ["AC112"]
    assert [one.rule for one in lint(path, ignore=["AC112"])] == ["AC110"]
    assert lint(path, ignore=["AC11"]) == []
    assert [*chosen(LINT, ALL, ())] == [*LINT]


def test_every_plan_of_a_project_is_looked_at_after_one_that_cannot_run(tmp_path):
    """By 8 ranks 12 heads cannot be divided; each of 4 would have 2,816 / 4 = 704 = 11 x 64 features, and of 2,752 688."""
    path = write(tmp_path, ("n_heads: 16", "n_heads: 12"), ("n_kv_heads: 8", "n_kv_heads: 4"), ("2816", "2752"))
    aim = Aim([], [("wide", Plan(tp=8)), ("narrow", Plan(tp=4))])
    assert [(one.rule, one.message.partition(":")[0]) for one in lint(path, aim)] == [
        ("AC120", "plan wide"),
        ("AC126", "plan narrow"),
    ]


def test_the_figures_of_a_rounded_amount_are_no_safe_edit(tmp_path):
    """114M has three digits; 110M may have two or three, and only a person who read the page knows."""
    for text, figure, edits in (("114M", 114_000_000, [3]), ("110M", 110_000_000, [])):
        changes = published(text, parameters=figure, status="counted")
        (problem,) = lint(write(tmp_path, changes), select=["AC143"])
        assert [(edit.path, edit.value) for edit in problem.edits] == [(("published", 0, "digits"), n) for n in edits]


def test_what_a_name_says_of_a_token_is_held_against_what_a_token_meets():
    model = find("mixtral-8x7b").model.model_copy(update={"name": "own-47b-a7b"})
    (problem,) = lint(model, select=["AC140"])
    assert problem.message.startswith("says a7b; a token meets 12,879,925,248 parameters (+84.0")  # / 7e9 = 1.84
    (problem,) = lint(model.model_copy(update={"name": "own-7b"}), select=["AC140"])
    assert problem.message.startswith("says 7b; the model has 46,702,792,704 parameters (+567.")  # / 7e9 = 6.67


def test_what_a_token_meets_is_no_matter_of_a_dense_model(tmp_path):
    for name, told in (("own-a3b", []), ("own-3b", ["AC140"]), ("own-a3b-3b", ["AC140"])):
        path = write(tmp_path, ("name: own", f"name: {name}"))
        assert [one.rule for one in lint(path, select=["AC140"])] == told


def test_every_published_figure_is_looked_at(tmp_path):
    """One that counts, one whose text is no number, and then one that is nominal and far."""
    last = GOOD.splitlines(keepends=True)[-1]
    entries = (
        f"{{text: '{STORED:,}', parameters: {STORED}, status: counted, source: Table 2}}",
        "{text: about 127M, parameters: 127000000, status: nominal, source: Table 2}",
        "{text: 160M, parameters: 160000000, status: nominal, source: Table 2}",
        "{text: 128M, parameters: 127000000, digits: 3, status: nominal, source: tbd}",
    )
    path = write(tmp_path, (last, f"{last}published: [{', '.join(entries)}]\n"))
    assert [(one.rule, one.path) for one in lint(path, select=["AC141", "AC142", "AC144"])] == [
        ("AC141", "published.2.parameters"),
        ("AC144", "published.3.parameters"),
        ("AC142", "published.3.source"),
    ]


def test_an_entry_of_no_rule_is_told_to_be_removed_unless_it_is_nearly_one(tmp_path):
    path = allowed(tmp_path, ("AC119", "as printed"), ("AC987", "as printed"))
    first, second = lint(path, select=["AC102"])
    assert first.suggestion.startswith("did you mean 'AC1")
    assert second.suggestion == "remove the entry"


def test_what_a_plan_cannot_run_is_not_told_twice(tmp_path):
    path = write(tmp_path, ("n_heads: 16", "n_heads: 12"), ("n_kv_heads: 8", "n_kv_heads: 4"), ("2816", "11008"))
    assert [one.rule for one in lint(path, on(tp=8))] == ["AC120"]


def test_a_question_is_the_place_of_what_it_changed():
    problems = lint(Subject(find("llama3-8b@vocab_size=128001")))
    assert [str(one).partition(" is ")[0] for one in problems] == ["llama3-8b@vocab_size=128001: vocab_size:"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"select": "AC1"}, "lint: select: must be a list of identifiers, or of how they begin; got 'AC1'"),
        ({"ignore": 7}, "lint: ignore: must be a list of identifiers, or of how they begin; got 7"),
        ({"select": ["AC1", "AX"]}, "lint: select: matches no rule; got 'AX'; `archcalc list rules` shows all"),
        ({"ignore": [""]}, "lint: ignore: matches no rule; got ''; `archcalc list rules` shows all"),
    ],
)
def test_what_chooses_no_rule_is_refused(arguments, said):
    with pytest.raises(Invalid) as error:
        lint("gpt2", **arguments)
    assert str(error.value) == said
    with pytest.raises(Invalid, match=r"^lint: aim: must be "):
        lint("gpt2", 7)
