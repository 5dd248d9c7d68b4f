"""The running model's journey, and a word in two texts: held against the count and against transformers."""

import math

import pytest
from command import ask
from outside import TINY_GPT2, byte_level, tiny_gpt2

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from variants import variant  # noqa: E402

import archcalc  # noqa: E402
from archcalc_reference import Transformer  # noqa: E402
from archcalc_reference.model.journey import watch  # noqa: E402
from archcalc_reference.weights.folder import save_weights  # noqa: E402

A, B = "a machine learning model", "a fashion model walks"


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return tiny_gpt2(tmp_path_factory.mktemp("gpt2"))


def asked(*arguments):
    done = ask("trace", *arguments)
    assert done.code == 0, done.err
    return done


@pytest.mark.parametrize(
    "name",
    ["tiny", "gpt2", pytest.param("gpt3-175b", marks=pytest.mark.prove), "tiny@n_kv_heads=2,unembedding.tied=false"],
)
def test_the_run_agrees_with_the_count_whatever_the_size(name):
    text = "To date, the cleverest thinker of all time was"
    told = asked(name, "-p", text, "-f", "json").json
    model = archcalc.load(name)
    run = archcalc.Run("prefill", 1, len(text))
    assert sum(call["flops"] for call in told["calls"]) == archcalc.flops(model, run).forward
    assert told["flops"] == {"run": archcalc.flops(model, run).forward, "counted": archcalc.flops(model, run).forward}
    met = {one["name"]: tuple(one["shape"]) for call in told["calls"] for one in call["weights"]}
    layers = range(sum(group.repeat for group in model.layers))
    stored = {t.name.format(i=i): t.shape for t in archcalc.params(model).tensors for i in layers}
    assert met == stored
    assert told["weights"] == {"met": archcalc.params(model).stored, "counted": archcalc.params(model).stored}


def test_each_step_has_the_shape_of_the_run():
    shapes = [
        (call["module"], call["function"], call["shape"])
        for call in asked("tiny", "-p", "Hi!", "-f", "json").json["calls"]
    ]
    assert shapes[:4] == [
        ("embedding.token", "embedding", [1, 3, 128]),
        ("embedding.position", "embedding", [3, 128]),
        ("embedding", "add", [1, 3, 128]),
        ("layers.0.attention_norm", "layer_norm", [1, 3, 128]),
    ]
    assert ("layers.4.attention", "softmax", [1, 4, 1, 3, 3]) in shapes
    assert ("layers.4.mlp.up", "linear", [1, 3, 512]) in shapes
    assert shapes[-1] == ("unembedding", "linear", [1, 3, 256])


def test_layers_that_do_the_same_are_one_row_and_others_are_not(tmp_path):
    out = asked("tiny", "-p", "Hi!").out
    assert out.count("layers.{i}.attention x5\n") == 1
    model = archcalc.load("tiny")
    group = model.layers[0]
    two = (
        group.model_copy(update={"repeat": 2}),
        group.model_copy(update={"mlp": group.mlp.model_copy(update={"d_ff": 64})}),
    )
    path = tmp_path / "two.yaml"
    path.write_text(archcalc.dump(model.model_copy(update={"layers": two})))
    out = asked(str(path), "-p", "Hi!").out
    assert out.count("layers.{i}.attention x2\n") == 1
    assert out.count("layers.{i}.attention x5\n") == 1


def test_without_weights_there_are_shapes_and_no_numbers():
    done = asked("gpt3-175b@n_layers=2", "-p", "Hi")
    assert "meta device: shapes without values" in done.out
    assert "Lengths" not in done.out
    assert "Next" not in done.out
    told = asked("gpt3-175b@n_layers=2", "-p", "Hi", "-f", "json").json
    assert told["next"] == []
    assert (
        {call["mean_length"] for call in told["calls"]} == {call["first_length"] for call in told["calls"]} == {None}
    )


def test_a_difference_is_printed(monkeypatch):
    from archcalc.report import journey

    real = journey.flops
    monkeypatch.setattr(journey, "flops", lambda *a: real(*a)._replace(forward=real(*a).forward - 7))
    out = asked("tiny", "-p", "Hi").out
    assert "Differs" in out
    assert "(+7)" in out


def test_with_weights_lengths_and_what_comes_next_are_the_model_s(gpt2):
    model, folder = gpt2
    told = asked(TINY_GPT2, "-p", A, "--weights", folder, "-f", "json").json
    with torch.no_grad():
        out = model(torch.tensor([list(A.encode())]), output_hidden_states=True)
    best = torch.softmax(out.logits[0, -1].double(), -1).topk(5)
    assert [one["token_id"] for one in told["next"]] == best.indices.tolist()
    assert [one["probability"] for one in told["next"]] == pytest.approx(best.values.tolist(), rel=1e-4)
    sums = {call["module"]: call for call in told["calls"] if call["function"] == "add"}  # the last of a layer's two
    for i in range(2):
        first, *others = out.hidden_states[i + 1][0].norm(dim=-1).tolist()
        assert sums[f"layers.{i}"]["first_length"] == pytest.approx(first, rel=1e-5)
        assert sums[f"layers.{i}"]["mean_length"] == pytest.approx(sum(others) / len(others), rel=1e-5)
    assert "first position" in asked(TINY_GPT2, "-p", A, "--weights", folder).out


def test_a_text_of_one_token_has_the_length_of_its_first_position_alone(gpt2):
    told = asked(TINY_GPT2, "-p", "a", "--weights", gpt2[1], "-f", "json").json
    assert {call["mean_length"] for call in told["calls"]} == {None}
    assert any(call["first_length"] for call in told["calls"])


def test_lengths_are_those_of_the_residual_stream_whatever_the_sizes(tmp_path):
    """As many tokens as features: scores, which have infinities, are as wide as the model, and so are heads and logits."""
    spec = "tiny@d_model=16,n_heads=1,d_head=16,d_ff=16,vocab_size=256,n_layers=1,context_length=16"
    folder = str(tmp_path / "weights")
    save_weights(Transformer(archcalc.load(spec)), folder)
    told = asked(spec, "--weights", folder, "-p", "x" * 16, "-f", "json").json
    with_length = {call["module"] for call in told["calls"] if call["mean_length"] is not None}
    norms = {"layers.0.attention_norm", "layers.0.mlp_norm", "final_norm"}
    ends = {"layers.0.attention.output", "layers.0.mlp.down", "layers.0"}
    assert with_length == {"embedding.token", "embedding.position", "embedding", *norms, *ends}
    assert all(math.isfinite(call["mean_length"]) for call in told["calls"] if call["mean_length"] is not None)


def test_a_word_drifts_as_transformers_has_it(gpt2):
    model, folder = gpt2
    told = asked(TINY_GPT2, "--weights", folder, "--word", "model", "-p", A, "-p", B, "-f", "json").json
    cosine = {row["after"]: row["cosine"] for row in told["drift"]}
    places = [text.index("model") + len("model") - 1 for text in (A, B)]  # a byte is a token: the word's last
    assert [text["position"] for text in told["texts"]] == places
    between = []  # what the second norm of each layer reads is what attention left
    hooks = [h.ln_2.register_forward_pre_hook(lambda _, given: between.append(given[0])) for h in model.transformer.h]
    with torch.no_grad():
        ways = [model(torch.tensor([list(t.encode())]), output_hidden_states=True).hidden_states for t in (A, B)]
    for hook in hooks:
        hook.remove()
    for layer, (first, second) in enumerate(zip(between[:3], between[3:], strict=True)):
        vectors = (first[0, places[0]], second[0, places[1]])
        expected = torch.cosine_similarity(*vectors, dim=0).item()
        assert cosine[f"layers.{layer}.attention"] == pytest.approx(expected, abs=1e-5)
    names = ["embedding", "layers.0.mlp", "layers.1.mlp", "final_norm"]
    for name, first, second in zip(names, *ways, strict=True):
        vectors = (first[0, places[0]], second[0, places[1]])
        assert cosine[name] == pytest.approx(torch.cosine_similarity(*vectors, dim=0).item(), abs=1e-5)
    assert cosine["token"] == pytest.approx(1)
    assert list(cosine)[:3] == ["token", "embedding", "layers.0.attention"]


def test_before_it_has_looked_back_a_first_word_is_the_same_in_both_texts(gpt2):
    _, folder = gpt2
    told = asked(TINY_GPT2, "--weights", folder, "--word", "a", "-p", "a b", "-p", "a c", "-f", "json").json
    assert [row["cosine"] for row in told["drift"]] == pytest.approx([1.0] * 9)


@pytest.mark.parametrize(
    ("text", "word", "last"),
    [
        ("remodel a model, models", "model", len("remodel a model") - 1),
        ("remodelled", "model", len("remodel") - 1),
        ("两个模型", "模型", len("两个模型".encode()) - 1),
        ("a C++ model in C++", "C++", len("a C++ model in C++") - 1),
    ],
)
def test_the_last_place_where_a_word_stands_is_taken(gpt2, text, word, last):
    _, folder = gpt2
    told = asked(TINY_GPT2, "--weights", folder, "--word", word, "-p", text, "-p", text, "-f", "json").json
    assert told["texts"][0]["position"] == last


def test_a_word_of_a_real_tokenizer_is_its_last_token(tmp_path):
    tokenizer = byte_level(["a model, a model\n"] * 9, 300)
    folder = str(tmp_path / "weights")
    save_weights(Transformer(archcalc.load("tiny@vocab_size=300")), folder)
    tokenizer.save(f"{folder}/tokenizer.json")
    told = asked(
        "tiny@vocab_size=300", "--weights", folder, "--word", "model", "-p", "a model", "-p", "my model", "-f", "json"
    ).json
    ids = tokenizer.encode("a model").ids
    assert tokenizer.id_to_token(ids[-1]).endswith("l")
    assert told["texts"][0] == {
        "prompt": "a model",
        "begins": [],
        "position": len(ids) - 1,
        "token_id": ids[-1],
        "text": " model",
        "word_tokens": 1,
        "occurrences": 1,
    }


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["-p", ""], "--prompt: is empty"),
        (["-p", "x" * 65], "--prompt: has 65 tokens; the context holds 64"),
        (["-p", "a", "-p", "b"], "--prompt: must be given once; --word compares two; got 2"),
        (["-p", "a", "--word", "a"], "--prompt: must be given twice with --word; got 1"),
        (
            ["-p", "a", "-p", "a", "-p", "a", "--word", "a"],
            "--prompt: must be given twice with --word; got 3; give --group NAME=TEXT for more of them",
        ),
        (["--word", "a"], "--word: needs a --prompt; got 'a'"),
        (["--weights", "here"], "--weights: needs a --prompt; got 'here'"),
        (["-p", "a", "--seq", "4"], "--seq: cannot be combined with --prompt, whose length is used; got '4'"),
        (["-p", "a", "--batch", "4"], "--batch: must be 1 with --prompt; got '4'"),
        (
            ["-p", "a", "--attention", "flash"],
            "--attention: must be math with --prompt: flash stores no scores; got 'flash'",
        ),
    ],
)
def test_what_cannot_be_is_one_line(arguments, line):
    done = ask("trace", "tiny", *arguments)
    assert (done.code, done.out, done.err) == (2, "", f"{line}\n")


def test_a_word_needs_weights_and_must_be_there(gpt2):
    done = ask("trace", "tiny", "--word", "a", "-p", "a", "-p", "a")
    assert (done.code, done.err.startswith("--weights: tiny has no weights in the current directory; ")) == (3, True)
    for word, line in (("zebra", "is not in the prompt; got 'zebra'"), ("", "is empty; got ''")):
        done = ask("trace", TINY_GPT2, "--weights", gpt2[1], "--word", word, "-p", "a", "-p", "b")
        assert (done.code, done.err) == (2, f"--word: {line}\n")


def test_a_prompt_as_long_as_the_context_is_read(gpt2):
    told = asked(TINY_GPT2, "--weights", gpt2[1], "-p", "x" * 64, "-f", "json").json
    assert len(told["tokens"]) == 64


def test_a_vocabulary_that_has_no_bytes_is_refused():
    done = ask("trace", "tiny@vocab_size=100", "-p", "Hi")
    line = "tiny@vocab_size=100: has a vocabulary of 100, too small for bytes; --tokenizer DIR names a tokenizer of that size"
    assert (done.code, done.err) == (2, f"{line}\n")


def test_watching_leaves_no_hook_behind():
    model = Transformer(archcalc.load("tiny@n_layers=1"))
    tokens = torch.zeros(1, 4, dtype=torch.long)
    first, _ = watch(model, tokens)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    again, logits = watch(model, tokens)
    assert first == again
    assert torch.equal(logits, model(tokens).logits)
    assert math.isfinite(logits.sum())


def test_a_norm_and_a_rotation_are_one_step_each():
    calls, _ = watch(Transformer(variant("llama")).eval(), torch.zeros(1, 4, dtype=torch.long))
    first = [(call.module, call.function) for call in calls if call.module.startswith("layers.0.")]
    assert [name for module, name in first if module == "layers.0.attention_norm"] == ["rms_norm"]
    assert [name for module, name in first if module == "layers.0.attention"][:2] == ["rotate", "rotate"]
