"""A question attached to a spec changes it, keeps its relations, and tells what followed."""

import json
import time

import pytest
from command import ask

import archcalc
from archcalc.spec.catalogue import find
from archcalc.spec.lengthening import beginning
from archcalc.spec.source import parse
from archcalc.spec.validation import validate


def changes(spec):
    return [str(change) for change in find(spec).changes]


def test_short_names_and_paths_mean_the_same():
    short = archcalc.load("gpt3-xl@n_kv_heads=4")
    assert short.layers[0].attention.n_kv_heads == 4
    assert archcalc.load("gpt3-xl@layers.0.attention.n_kv_heads=4").layers == short.layers
    assert short.name == "gpt3-xl"
    assert find("gpt3-xl@ n_kv_heads=4 ,d_model=2048").name == "gpt3-xl@n_kv_heads=4,d_model=2048"
    assert ask("params", "gpt3-xl@n_kv_heads=4", "-f", "json").json["spec"] == "gpt3-xl@n_kv_heads=4"
    assert archcalc.load("gpt3-xl@attention.n_kv_heads=4").layers == short.layers


def test_what_changed_is_printed():
    answer = ask("params", "gpt3-xl@n_kv_heads=4,context_length=4k")
    assert "layers.0.attention.n_kv_heads 16 -> 4" in answer.out
    assert "context_length 2,048 -> 4,096" in answer.out
    payload = ask("params", "gpt3-xl@n_kv_heads=4", "-f", "json").json
    assert payload["changes"] == [{"path": "layers.0.attention.n_kv_heads", "old": 16, "new": 4, "because": None}]
    assert "changes" not in ask("params", "gpt3-xl", "-f", "json").json


def test_printed_figures_of_the_unchanged_spec_are_left_out():
    assert archcalc.load("gpt3-xl@context_length=4k").published == ()
    out = ask("report", "gpt3-xl@context_length=4k").out
    assert "Published" not in out
    assert "left out" in out


def test_a_questioned_spec_reads_back():
    model = archcalc.load("gpt2@n_layers=3,tied=false")
    assert validate(parse(archcalc.dump(model).encode(), "f"), archcalc.Model) == model


def test_a_misprint_that_the_question_undoes_is_no_warning():
    assert "prints n_heads 24" in ask("report", "gpt3-xl@context_length=4k").out
    assert "prints n_heads" not in ask("report", "gpt3-xl@n_heads=24,n_kv_heads=24").out


def test_a_wider_model_keeps_heads_and_mlp_in_proportion():
    # 1,024 wide with heads of 64 and d_ff 4 x 1,024 is the shape of gpt2-medium but for its depth
    assert changes("gpt2@d_model=1024") == [
        "d_model 768 -> 1,024",
        "layers.0.attention.n_heads 12 -> 16, to keep n_heads x d_head = d_model",
        "layers.0.attention.n_kv_heads 12 -> 16, to keep n_kv_heads = n_heads",
        "layers.0.mlp.d_ff 3,072 -> 4,096, to keep d_ff = 4 x d_model",
    ]
    assert archcalc.params(archcalc.load("gpt2@d_model=1024,n_layers=24")).stored == 354_823_168


def test_other_heads_keep_the_width():
    assert changes("gpt2@n_heads=6") == [
        "layers.0.attention.n_heads 12 -> 6",
        "layers.0.attention.d_head 64 -> 128, to keep n_heads x d_head = d_model",
        "layers.0.attention.n_kv_heads 12 -> 6, to keep n_kv_heads = n_heads",
    ]
    assert changes("gpt2@d_head=128")[1] == "layers.0.attention.n_heads 12 -> 6, to keep n_heads x d_head = d_model"


def test_what_is_named_does_not_follow():
    assert changes("gpt2@d_model=1024,d_ff=10,n_heads=2,n_kv_heads=1,d_head=3") == [
        "d_model 768 -> 1,024",
        "layers.0.mlp.d_ff 3,072 -> 10",
        "layers.0.attention.n_heads 12 -> 2",
        "layers.0.attention.n_kv_heads 12 -> 1",
        "layers.0.attention.d_head 64 -> 3",
    ]


def test_what_cannot_follow_stays():
    assert changes("gpt2@n_heads=7")[1:] == ["layers.0.attention.n_kv_heads 12 -> 7, to keep n_kv_heads = n_heads"]
    assert changes("gpt2@d_model=1000")[1:] == ["layers.0.mlp.d_ff 3,072 -> 4,000, to keep d_ff = 4 x d_model"]


def test_words_and_booleans_can_be_asked():
    assert archcalc.load("gpt2@tied=false").unembedding.tied is False
    assert archcalc.load("gpt2@activation=gelu").layers[0].mlp.activation == "gelu"
    assert changes("gpt2@tied=false") == ["unembedding.tied true -> false"]


def test_n_layers_is_the_repeat_of_one_group():
    assert archcalc.load("gpt2@n_layers=3").n_layers == 3


BAD = {
    "invalid value": (
        "gpt2@n_kv_heads=5",
        "layers.0.attention.n_kv_heads: must divide n_heads (12); got 5; nearest: 4 or 6",
    ),
    "zero": ("gpt2@n_heads=0", "layers.0.attention.n_heads: must be at least 1; got 0"),
    "several": (
        "gpt2@bias=true",
        "bias: is the name of 5 fields; name one: norm.bias, attention.bias, mlp.bias, ...",
    ),
    "none": ("gpt2@heads=3", "heads: unknown field; nearest: n_heads, d_head, n_kv_heads"),
    "nothing near": ("gpt2@%=3", "%: unknown field"),
    "twice": ("gpt2@n_heads=3,n_heads=4", "layers.0.attention.n_heads: is set twice"),
    "empty": ("gpt2@", "'' is not field=value; leave out what is empty"),
    "no value": ("gpt2@d_model", "'d_model' is not field=value; give a value: d_model=VALUE"),
    "no field": ("gpt2@=3", "'=3' is not field=value; give a value: FIELD=VALUE"),
    "description": ("gpt2@name=x", "name: unknown field"),
    "no size, and nothing follows": ("gpt2@d_model=1k", "d_model: must be an integer; got '1k'"),
    "true is not a size": ("gpt2@d_model=true", "d_model: must be an integer; got true"),
    "no digits": ("gpt2@d_model=._", "d_model: must be an integer; got '._'"),
    "a length that is none": ("gpt2@context_length=4q", "context_length: must be an integer; got '4q'"),
    "a count with a length's suffix": ("gpt2@vocab_size=50k", "vocab_size: must be an integer; got '50k'"),
}


@pytest.mark.parametrize(("spec", "text"), BAD.values(), ids=BAD)
def test_a_question_that_is_not_understood_is_one_line(spec, text):
    answer = ask("params", spec)
    assert (answer.err, answer.code) == (f"{spec}: {text}\n", 2)


def test_an_unchanged_fault_keeps_its_place(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("schema: 1\nvocab_size: 3\n")
    err = ask("params", f"{path}@vocab_size=0").err.splitlines()
    assert f"{path}:1:9: schema: must be 0; got 1" in err
    assert f"{path}@vocab_size=0: vocab_size: must be at least 1; got 0" in err


def test_a_question_on_what_is_no_mapping_is_answered_by_the_reader(tmp_path):
    path = tmp_path / "list.yaml"
    path.write_text("- a\n")
    assert ask("params", f"{path}@a=1").err == f"{path}:1:1: must be a mapping; got ['a']\n"


def test_a_path_with_an_at_is_a_path(tmp_path):
    path = tmp_path / "me@home.yaml"
    path.write_text(archcalc.dump(archcalc.load("tiny")))
    assert archcalc.load(path) == archcalc.load("tiny")


def test_groups_are_named_by_their_place(tmp_path):
    model = archcalc.load("tiny")
    two = model.model_copy(update={"layers": model.layers * 2, "published": ()})
    path = tmp_path / "two.yaml"
    path.write_text(archcalc.dump(two))
    assert [g.attention.n_kv_heads for g in archcalc.load(f"{path}@layers.1.attention.n_kv_heads=1").layers] == [4, 1]
    assert (
        "is the name of 2 fields; name one: layers.0.repeat, layers.1.repeat"
        in ask("params", f"{path}@n_layers=3").err
    )
    # the width is the model's: both groups follow it
    wider = archcalc.load(f"{path}@d_model=256").layers
    assert [(g.attention.n_heads, g.mlp.d_ff) for g in wider] == [(8, 1024), (8, 1024)]


def test_a_question_that_changes_nothing_changes_nothing():
    found = find("gpt3-xl@n_heads=16")
    assert (found.changes, found.model) == ((), archcalc.load("gpt3-xl"))
    assert "prints n_heads 24" in ask("report", "gpt3-xl@n_heads=16").out


def test_a_path_with_an_at_takes_a_question(tmp_path):
    folder = tmp_path / "me@home"
    folder.mkdir()
    path = folder / "s@1.yaml"
    path.write_text(archcalc.dump(archcalc.load("tiny")))
    assert archcalc.load(f"{path}@n_layers=2").n_layers == 2
    assert ask("params", f"{path}@n_layers=x").err.startswith(
        f"{path}@n_layers=x: layers.0.repeat: must be an integer"
    )


LEFT_OUT = {
    "null": ("llama3-8b@window=4096", ["layers.0.attention.window null -> 4,096"]),
    "path": ("llama3-8b@layers.0.attention.window=4096", ["layers.0.attention.window null -> 4,096"]),
    "word": ("llama3-8b@parallel=shared", ["layers.0.parallel null -> shared"]),
    "boolean": ("gpt2@alibi=true", ["layers.0.attention.alibi false -> true"]),
    "of a block with defaults alone": ("gpt2@std=0.5", ["initialization.std 0.02 -> 0.5"]),
    "stated elsewhere": ("gemma2-9b@window=8192", ["layers.0.kinds.local.attention.window 4,096 -> 8,192"]),
    "of all kinds": (
        "gemma2-9b@clip=8",
        ["layers.0.kinds.local.attention.clip null -> 8", "layers.0.kinds.global.attention.clip null -> 8"],
    ),
    "of one kind": (
        "gemma2-9b@global.attention.window=8192",
        ["layers.0.kinds.global.attention.window null -> 8,192"],
    ),
    "its default": ("llama3-8b@window=null,alibi=false", []),
    "to null": ("gemma2-9b@window=null", ["layers.0.kinds.local.attention.window 4,096 -> null"]),
    "a block to null": ("llama3-8b@rotary=null", ["layers.0.attention.rotary a block -> null"]),
    "a block to a word": ("qwen2-7b@attention.bias=false", ["layers.0.attention.bias a block -> false"]),
}


@pytest.mark.parametrize(("spec", "told"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_field_that_the_spec_leaves_out_can_be_asked(spec, told):
    assert changes(spec) == told


def test_a_block_that_differs_between_kinds_of_layers_is_removed_from_all(tmp_path):
    (tmp_path / "gemma3.json").write_text('{"model_type": "gemma3_text"}')
    assert changes(f"{tmp_path}/gemma3.json@rotary=null") == [
        f"layers.0.kinds.{kind}.attention.rotary a block -> null" for kind in ("local", "global")
    ]


def test_what_a_question_puts_in_is_counted():
    # a window of 16 of 8,192 positions: the cache of 32 layers keeps 2 x 8 heads of 128, in bf16, of 16 positions
    short = ask("memory", "llama3-8b@window=16", "--for", "inference", "-f", "json").json
    assert short["cache"]["total"] == 32 * 16 * 2 * 8 * 128 * 2
    # one shared norm where there were two: 32 layers have 4,096 gains less
    assert (
        archcalc.params(archcalc.load("llama3-8b")).stored
        - archcalc.params(archcalc.load("llama3-8b@parallel=shared")).stored
        == 32 * 4_096
    )
    model = archcalc.load("llama3-8b@window=16")
    assert model.layers[0].attention.window == 16
    assert validate(parse(archcalc.dump(model).encode(), "f"), archcalc.Model) == model
    changed = ask("params", "llama3-8b@rotary=null", "-f", "json").json["changes"]
    assert changed == [
        {"path": "layers.0.attention.rotary", "old": {"d_rotary": 128, "theta": 500000}, "new": None, "because": None}
    ]


COPY = "write it in a copy of "
NOT_GIVEN = {
    "a block": (
        "llama3-8b@qk_norm=rmsnorm",
        "layers.0.attention.qk_norm: takes a block, which a question cannot give; got 'rmsnorm'; " + COPY,
    ),
    "a block that is there": (
        "llama3-8b@rotary=none",
        "layers.0.attention.rotary: takes a block, which a question cannot give; got 'none'; " + COPY,
    ),
    "in an absent block": (
        "llama3-8b@rotary.scaling.factor=2",
        "rotary.scaling.factor: layers.0.attention.rotary.scaling is null, and a question cannot give a block; "
        + COPY,
    ),
    "by a bare name": (
        "gpt2@reversed=true",
        "reversed: layers.0.attention.rotary is null, and a question cannot give a block; " + COPY,
    ),
    "part of what is set to null": (
        "llama3-8b@rotary=null,theta=5",
        "layers.0.attention.rotary.theta: is a part of layers.0.attention.rotary, which is set too",
    ),
    "of two parts": (
        "llama3-8b@softcap=30",
        "softcap: is the name of 2 fields; name one: layers.0.attention.softcap, unembedding.softcap",
    ),
    "out of range": ("llama3-8b@window=0", "layers.0.attention.window: must be at least 1; got 0"),
    "another program's name": ("llama3-8b@sliding_window=4", "sliding_window: unknown field; here it is called "),
    "a layer, not a group": (
        "gemma2-9b@layers.1.attention.window=77",
        "layers.1.attention.window: unknown field; groups of layers are numbered, not layers; name one: "
        "layers.0.kinds.local.attention.window, layers.0.kinds.global.attention.window",
    ),
    "without its kind": (
        "gemma2-9b@layers.0.attention.n_heads=4",
        "layers.0.attention.n_heads: unknown field; name one: layers.0.kinds.local.attention.n_heads, "
        "layers.0.kinds.global.attention.n_heads",
    ),
}


@pytest.mark.parametrize(("spec", "text"), NOT_GIVEN.values(), ids=NOT_GIVEN)
def test_what_a_question_cannot_set_is_told(spec, text):
    answer = ask("params", spec)
    assert answer.code == 2
    assert answer.err.startswith(f"{spec}: {text}")
    assert answer.err.count("\n") == 1


def test_where_a_block_can_be_written_is_told(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "gpt2"}')
    err = ask("params", f"{path}@qk_norm=1").err
    assert err.endswith(f"got 1; write it in the spec that `archcalc import {path}` makes\n")


BROKEN = {
    "a size beside it": ("gemma2-9b@n_heads=7", "layers.0.kinds.local.attention.n_kv_heads: must divide n_heads (7)"),
    "the whole model": (
        "opt-350m@embedding.d_embedding=256",
        "unembedding.d_embedding: must be embedding.d_embedding (256), since the table is tied; got 512",
    ),
    "another kind": ("gpt2@mlp.kind=none", "layers.0.mlp.kind: must be "),
}


@pytest.mark.parametrize(("spec", "text"), BROKEN.values(), ids=BROKEN)
def test_what_a_question_breaks_elsewhere_is_told_of_the_question(spec, text):
    answer = ask("params", spec)
    assert answer.code == 2
    assert answer.err.startswith(f"{spec}: {text}")


def test_what_was_wrong_before_is_told_of_the_file(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(archcalc.dump(archcalc.load("gemma2-9b")).replace("d_rotary: 256", "d_rotary: 258", 1))
    err = ask("params", f"{path}@n_heads=7").err
    assert f"{path}@n_heads=7: layers.0.kinds.global.attention.n_kv_heads: must divide n_heads (7)" in err
    assert ask("params", f"{path}@clip=7").err.startswith(
        f"{path}:20:30: layers.0.kinds.local.attention.rotary.d_rotary: "
    )


def test_a_size_that_is_not_stated_is_not_swept():
    assert ask("sweep", "llama3-8b", "--vary", "window=1,2").err == (
        "--vary: window: is not stated in the spec; SPEC@window=... sets it\n"
    )


KIMI = {"model_type": "kimi_linear", "num_hidden_layers": 10, "vocab_size": 100, "max_position_embeddings": 64}


@pytest.mark.parametrize("layers", [8, 10, 14, 30])
def test_more_layers_repeat_what_follows_a_first_dense_layer(layers, tmp_path):
    """As the config says that has as many layers; in a sweep too."""
    paths = [tmp_path / "short.json", tmp_path / "long.json"]
    for path, n in zip(paths, (10, layers), strict=True):
        path.write_text(json.dumps({**KIMI, "num_hidden_layers": n}))
    asked, whole = archcalc.load(f"{paths[0]}@n_layers={layers}"), archcalc.load(str(paths[1]))
    assert archcalc.params(asked).stored == archcalc.params(whole).stored
    assert [kind for kind, _ in zip(_kinds(asked), range(layers), strict=False)] == [*_kinds(whole)][:layers]
    swept = ask(
        "sweep", str(paths[0]), "--vary", f"n_layers=4,{layers}", "--columns", "parameters.stored", "-f", "json"
    )
    assert [row[1] for row in swept.json["rows"]][1] == archcalc.params(whole).stored
    told = changes(f"{paths[0]}@n_layers={layers}")
    kept = f"layers.0.pattern 10 items -> {layers} items, to keep the first layer once and repeat the 4 that follow"
    assert (kept in told) == (layers > 10)


def _kinds(model):
    return [kind for group in model.layers for kind in group.pattern * group.repeat][: model.n_layers]


@pytest.mark.parametrize(
    ("pattern", "found"),
    {
        "abababab": (0, 2),
        "dbcbcbc": (1, 2),
        "dddaabaab": (3, 3),
        "dddabababab": (3, 2),
        "ddddabababab": (0, 0),  # more than three layers, and more than are repeated
        "dabcab": (0, 0),  # not repeated twice
        "abc": (0, 0),
    }.items(),
)
def test_what_comes_first_in_a_pattern(pattern, found):
    assert beginning([*pattern]) == found


EQUAL = {
    "two groups": (
        "deepseek-v3@kv_rank=256",
        ["layers.0.attention.kv_rank 512 -> 256", "layers.1.attention.kv_rank 512 -> 256"],
    ),
    "two forms of a layer": (
        "qwen3-next-80b-a3b@mlp.d_ff=256",
        [
            "layers.0.kinds.linear_attention.branches.1.mixer.d_ff 512 -> 256",
            "layers.0.kinds.attention.mlp.d_ff 512 -> 256",
        ],
    ),
    "left out": (
        "deepseek-v3@gate=head",
        ["layers.0.attention.gate null -> head", "layers.1.attention.gate null -> head"],
    ),
}


@pytest.mark.parametrize(("spec", "told"), EQUAL.values(), ids=EQUAL)
def test_equal_fields_of_several_kinds_of_layers_are_set_together_and_listed(spec, told):
    assert changes(spec) == told


SEVERAL = {
    "deepseek-v3.2@n_heads=64": "n_heads: is the name of 4 fields; name one: attention.n_heads, indexer.n_heads\n",
    "deepseek-v3@d_ff=256": "d_ff: is the name of 3 fields; name one: layers.0.mlp.d_ff, layers.1.mlp.d_ff, shared.d_ff",
    "deepseek-v3@n_layers=20": "n_layers: is the name of 2 fields; name one: layers.0.repeat, layers.1.repeat\n",
    "gpt2@n_heads=": "'n_heads=' is not field=value; give a value: n_heads=VALUE\n",
    "gpt2@n_heads=4,": "'' is not field=value; leave out what is empty\n",
}


@pytest.mark.parametrize(("spec", "told"), SEVERAL.items())
def test_a_name_that_is_not_enough_is_told_with_those_that_are(spec, told):
    assert ask("params", spec).err.startswith(f"{spec}: {told}")


def test_layers_read_as_many_features_of_each_token_as_the_embedding_makes(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "gemma4_text", "num_hidden_layers": 6}')
    model = archcalc.load(f"{path}@embedding.per_layer.d_per_layer=8")
    widths = {b.mixer.d_per_layer for kind in model.layers[0].kinds_in() for b in kind.layer.branches[2:]}
    assert widths == {8}
    asked = f"{path}@layers.0.kinds.local.branches.2.mixer.d_per_layer=8"
    fix = "must be 8, as the layers' mixers of kind per_layer have it; got 256; give all of them one number\n"
    assert ask("params", asked).err == f"{asked}: embedding.per_layer.d_per_layer: {fix}"


@pytest.mark.parametrize(
    "text", ["@" * 131_000, "x:" + "@" * 130_000, "gpt2@" + "@" * 130_000], ids=["none", "revision", "gpt2"]
)
def test_an_argument_of_signs_alone_is_told_within_a_second(text):
    """The system hands 128 KiB over; the disk is not asked for a path that ends at each of 130,000 signs."""
    start = time.process_time()
    assert ask("params", text).code == 2
    assert time.process_time() - start < 1
