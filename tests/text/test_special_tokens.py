"""Added and special tokens, in any of the files that may hold them; transformers is the outside voice."""

import json

import pytest
from command import ask
from outside import byte_level

from archcalc import Invalid
from archcalc_reference.text.special import read_special
from archcalc_reference.text.template import Message, read_template
from archcalc_reference.text.tokenizer import TOKENIZER_FILES, read_ends, read_tokenizer, tokenizer_of

tokenizers = pytest.importorskip("tokenizers", reason="the extra `run`")
transformers = pytest.importorskip("transformers", reason="the outside voice")

TEXT = "a <|im_start|>user\nthe cat <|im_end|>  <mask>\n<end>x"


@pytest.fixture(scope="module")
def fast():
    """A tokenizer that has words for the marks and does not know that they are tokens."""
    trained = byte_level(["the cat sat, a user and an assistant\n"] * 9, 300)
    data = json.loads(trained.to_str())
    for word in ("<|im_start|>", "<|im_end|>"):
        data["model"]["vocab"][word] = len(data["model"]["vocab"])
    return tokenizers.Tokenizer.from_str(json.dumps(data))


def token(content, **flags):
    return {"content": content, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False, **flags}


def layouts(size):
    """What files say which tokens, and the ids above the vocabulary's are what comes next."""
    start, end = size - 2, size - 1
    config, names, added = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
    ids = {str(start): token("<|im_start|>", special=True), str(end): token("<|im_end|>", special=True)}
    return {
        "nothing": {},
        "named in tokenizer_config": {config: {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}},
        "named as objects": {config: {"eos_token": {"__type": "AddedToken", **token("<|im_end|>")}}},
        "named in special_tokens_map": {names: {"bos_token": "<|im_start|>", "eos_token": token("<|im_end|>")}},
        "a list in special_tokens_map": {names: {"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]}},
        "the old list": {config: {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}},
        "an object of names": {config: {"extra_special_tokens": {"image_token": "<|im_end|>"}}},
        "another name": {config: {"image_token": "<|im_start|>"}},
        "by id in tokenizer_config": {config: {"added_tokens_decoder": ids}},
        "by id, and a map that is not read": {
            config: {"added_tokens_decoder": ids, "eos_token": "<|im_end|>"},
            names: {"eos_token": "<|im_start|>", "pad_token": "<end>"},
        },
        "by id, new": {
            config: {"added_tokens_decoder": {**ids, str(size): token("<mask>", lstrip=True, special=True)}}
        },
        "by id, new, taking the blank behind it": {
            config: {"added_tokens_decoder": {str(size): token("<mask>", rstrip=True, special=False)}}
        },
        "added_tokens": {added: {"<|im_end|>": end, "<mask>": size, "<end>": size + 1}},
        "added_tokens that are special": {added: {"<mask>": size}, names: {"mask_token": "<mask>"}},
        "named and in no vocabulary": {names: {"pad_token": "<end>", "mask_token": token("<mask>", lstrip=True)}},
        "a map over tokenizer_config": {config: {"eos_token": "<end>"}, names: {"eos_token": "<|im_end|>"}},
    }


def write(folder, files):
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return str(folder)


@pytest.mark.parametrize("name", layouts(266))
def test_a_tokenizer_json_with_others_beside_it_is_what_transformers_reads(fast, tmp_path, name):
    fast.save(str(tmp_path / "tokenizer.json"))
    folder = write(tmp_path, layouts(fast.get_vocab_size())[name])
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    hold(theirs, folder)


@pytest.mark.parametrize("name", [name for name in layouts(266) if "by id" not in name])  # other ids here
def test_gpt2s_files_with_others_beside_them_are_what_transformers_reads(fast, tmp_path, name):
    fast.model.save(str(tmp_path))
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    vocab["<|endoftext|>"] = 0 if 0 not in vocab.values() else max(vocab.values()) + 1
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    found = layouts(len(vocab))[name]
    found.get("added_tokens.json", {}).pop("<|im_end|>", None)
    folder = write(tmp_path, found)
    hold(transformers.GPT2TokenizerFast.from_pretrained(folder), folder)


def hold(theirs, folder):
    ours = read_tokenizer(folder)
    expected = theirs(TEXT, add_special_tokens=False)["input_ids"]
    assert ours.cut(TEXT)[0] == expected
    assert ours.vocab_size == len(theirs)
    words = read_special(folder).words
    assert {name: word for name, word in words.items() if name in theirs.special_tokens_map} == {
        name: word for name, word in theirs.special_tokens_map.items() if name in words
    }


def test_a_chat_has_its_markers_from_the_map(fast, tmp_path):
    """They were lost: the template knows them by name, and each is one token."""
    fast.save(str(tmp_path / "tokenizer.json"))
    folder = write(tmp_path, {"special_tokens_map.json": {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}})
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}")
    said = read_template(folder).render([Message("user", "a")])
    assert said == "<|im_start|>a<|im_end|>"
    ours = read_tokenizer(folder)
    assert len(ours.encode(said)) == 3
    assert read_ends(folder, ours) == {ours.encode("<|im_end|>")[0]}


@pytest.mark.parametrize("inside", ["chat_template.json", "tokenizer_config.json", "chat_template.jinja"])
def test_a_template_stands_in_any_of_three_files(tmp_path, inside):
    told = "{{ messages[0].content }}!"
    (tmp_path / inside).write_text(told if inside.endswith("jinja") else json.dumps({"chat_template": told}))
    assert read_template(str(tmp_path)).render([Message("user", "a")]) == "a!"
    assert inside in TOKENIZER_FILES, "it goes where the weights go"


def test_files_that_contradict_each_other_are_a_line(fast, tmp_path):
    fast.save(str(tmp_path / "tokenizer.json"))
    files = {"tokenizer_config.json": {"eos_token": "<end>"}, "special_tokens_map.json": {"eos_token": "<|im_end|>"}}
    answer = ask("tokens", "a", "--weights", write(tmp_path, files))
    assert answer.err == (
        f"{tmp_path}/tokenizer.json: eos_token is '<end>' in tokenizer_config.json and '<|im_end|>' in "
        "special_tokens_map.json, which is used\n"
    )


def test_an_id_that_is_not_the_tokenizers_is_refused(fast, tmp_path):
    """transformers gives such a token the next id, and the model's row for it is another's."""
    fast.save(str(tmp_path / "tokenizer.json"))
    size = fast.get_vocab_size()
    for files, value in (
        ({"added_tokens.json": {"<mask>": size + 5}}, size + 5),
        ({"added_tokens.json": {"<|im_end|>": 3}}, 3),
        ({"tokenizer_config.json": {"added_tokens_decoder": {"3": token("<|im_end|>")}}}, 3),
    ):
        with pytest.raises(Invalid, match=rf"has the id \d+ here and another one in .*; got {value}$"):
            read_tokenizer(write(tmp_path, files))


def test_a_token_for_which_the_model_has_no_row_is_left_out_and_told(fast, tmp_path):
    fast.save(str(tmp_path / "tokenizer.json"))
    folder = write(tmp_path, {"special_tokens_map.json": {"pad_token": "<pad>"}})
    size = fast.get_vocab_size()
    assert read_tokenizer(folder, size).vocab_size == size
    assert read_tokenizer(folder, size).told == ("'<pad>' has no token, and the model has no row for another",)
    assert read_tokenizer(folder, size + 1).vocab_size == size + 1


def template(*parts):
    """A TemplateProcessing; None is the text."""
    single = [
        {"SpecialToken": {"id": one, "type_id": 0}} if one else {"Sequence": {"id": "A", "type_id": 0}}
        for one in parts
    ]
    ids = {one: {"id": one, "ids": [0], "tokens": [one]} for one in parts if one}
    return {"type": "TemplateProcessing", "single": single, "pair": single + single, "special_tokens": ids}


ROBERTA = {
    "type": "RobertaProcessing",
    "sep": ["!", 0],
    "cls": ["#", 2],
    "trim_offsets": True,
    "add_prefix_space": False,
}
BERT = {"type": "BertProcessing", "sep": ["!", 0], "cls": ["#", 2]}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
AROUND = {
    "nothing": (None, None),
    "offsets": (BYTES, None),
    "a template": (template("!", None), "'!' before a text"),
    "a template with nothing": (template(None), None),
    "a template that ends": (template(None, "!"), "'!' after a text"),
    "both": (template("!", None, "!"), "'!' before a text and '!' after it"),
    "RoBERTa's": (ROBERTA, "'#' before a text and '!' after it"),
    "BERT's": (BERT, "'#' before a text and '!' after it"),
    "a sequence": ({"type": "Sequence", "processors": [BYTES, template("!", None)]}, "'!' before a text"),
}


@pytest.mark.parametrize("name", AROUND)
def test_tokens_that_a_post_processor_adds_are_told(fast, tmp_path, name):
    processor, said = AROUND[name]
    data = {**json.loads(fast.to_str()), "post_processor": processor}
    whole = tokenizers.Tokenizer.from_str(json.dumps(data))
    assert (whole.encode("the").ids != whole.encode("the", add_special_tokens=False).ids) == (said is not None)
    answer = ask("tokens", "the", "--weights", write(tmp_path, {"tokenizer.json": data}))
    line = f"{tmp_path}/tokenizer.json: adds {said}, not shown here\n"
    assert (answer.code, answer.err) == (0, line if said else "")
    ours = read_tokenizer(str(tmp_path))
    assert [*ours.around.before, *ours.encode("the"), *ours.around.after] == whole.encode("the").ids


@pytest.mark.parametrize(
    "processor", [{"type": "Other"}, 7, {"type": "BertProcessing"}, {"type": "TemplateProcessing"}]
)
def test_a_post_processor_that_is_not_known_is_told(fast, tmp_path, processor):
    data = {**json.loads(fast.to_str()), "post_processor": processor}
    assert "its post_processor is not applied" in read_tokenizer(write(tmp_path, {"tokenizer.json": data})).told[0]


SETS = {
    "a start": (
        {"add_bos_token": True},
        ("add_bos_token is true in tokenizer_config.json, and the post_processor, which is used, adds nothing before a text",),
    ),
    "an end": (
        {"add_eos_token": True},
        ("add_eos_token is true in tokenizer_config.json, and the post_processor, which is used, adds nothing after a text",),
    ),
    "neither": ({"add_bos_token": False, "add_eos_token": None}, ()),
    "a space": (
        {"add_prefix_space": True},
        ("add_prefix_space is true in tokenizer_config.json and false in tokenizer.json, which is used",),
    ),
    "no space": ({"add_prefix_space": False}, ()),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_settings_beside_a_tokenizer_json_that_are_not_followed_are_told(fast, tmp_path, name):
    settings, told = SETS[name]
    fast.save(str(tmp_path / "tokenizer.json"))
    folder = write(tmp_path, {"tokenizer_config.json": settings, "config.json": {"model_type": "gpt2"}})
    ours = read_tokenizer(folder)
    assert ours.told == told
    if "add_prefix_space" in settings:  # where transformers follows them, and we do not, there is a line
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        assert (theirs.encode("the") != ours.encode("the")) == bool(told)


def test_a_token_in_no_vocabulary_is_told_and_gets_the_id_of_transformers(fast, tmp_path):
    fast.save(str(tmp_path / "tokenizer.json"))
    folder = write(tmp_path, {"special_tokens_map.json": {"pad_token": "<pad>"}})
    ours = read_tokenizer(folder)
    assert ours.told == ("'<pad>' is in no vocabulary and gets the next id, as in transformers",)
    assert ours.encode("<pad>") == transformers.PreTrainedTokenizerFast.from_pretrained(folder).encode("<pad>")


@pytest.mark.parametrize(("ids", "outside"), [(0, None), ([1, 9_999], "9,999"), (-1, "-1"), (None, None), ("x", None)])
def test_an_end_of_text_outside_the_vocabulary_is_told(fast, tmp_path, ids, outside):
    fast.save(str(tmp_path / "tokenizer.json"))
    size = fast.get_vocab_size()
    ours = tokenizer_of(write(tmp_path, {"generation_config.json": {"eos_token_id": ids}}), "it", size)
    line = f"eos_token_id {outside} in generation_config.json is not one of the {size} tokens and never ends a text"
    assert ours.told == ((line,) if outside else ())


BAD = {
    "a number for a token": ({"special_tokens_map.json": {"eos_token": {"content": 7}}}, "eos_token: must be a token of 1 to"),
    "an empty one": ({"tokenizer_config.json": {"eos_token": ""}}, "eos_token: must be a token of 1 to"),
    "a list that is none": ({"tokenizer_config.json": {"extra_special_tokens": 7}}, "extra_special_tokens: is not a list"),
    "an id that is none": ({"added_tokens.json": {"<x>": "7"}}, "'<x>': is not a token id; got '7'"),
    "an id that is huge": ({"added_tokens.json": {"<x>": 2**40}}, "'<x>': is not a token id; got 1099511627776"),
    "a key that is no id": ({"tokenizer_config.json": {"added_tokens_decoder": {"x": {}}}}, "added_tokens_decoder.x: is not a token id"),
    "a key without end": ({"tokenizer_config.json": {"added_tokens_decoder": {"9" * 50: {}}}}, "is not a token id; got '999"),
    "no objects": ({"tokenizer_config.json": {"added_tokens_decoder": {"3": "x"}}}, "added_tokens_decoder.3: must be an object"),
    "no object": ({"tokenizer_config.json": {"added_tokens_decoder": []}}, "added_tokens_decoder: must be an object that maps ids"),
    "a flag that is none": (
        {"tokenizer_config.json": {"added_tokens_decoder": {"3": token("x", lstrip=3)}}},
        "added_tokens_decoder.3.lstrip: must be true or false; got 3",
    ),
    "a list for an object": ({"special_tokens_map.json": []}, "special_tokens_map.json: is not a JSON object; got list"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_malformed_is_one_line(fast, tmp_path, name):
    files, line = BAD[name]
    fast.save(str(tmp_path / "tokenizer.json"))
    answer = ask("tokens", "a", "--weights", write(tmp_path, files))
    assert answer.code == 2
    assert answer.err.startswith(f"{tmp_path}/{next(iter(files))}: ")
    assert line in answer.err
    assert answer.err.count("\n") == 1


def test_a_new_token_never_takes_the_id_of_another(fast, tmp_path):
    """The package gives it the count of the vocabulary, which a vocabulary with holes may have used."""
    data = json.loads(fast.to_str())
    words = list(data["model"]["vocab"])
    data["model"] = {**data["model"], "vocab": {word: 2 * i for i, word in enumerate(words)}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    size = len(words) + len(words) % 2
    write(tmp_path, {"special_tokens_map.json": {"pad_token": "<pad>"}})
    if len(words) % 2 == 0:
        with pytest.raises(Invalid, match=rf"'<pad>' gets the id {size}, which .* has$"):
            read_tokenizer(str(tmp_path))
    else:
        assert read_tokenizer(str(tmp_path)).added.keys() == {len(words)}
