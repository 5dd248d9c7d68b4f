"""Bad input gets one clear line and the right exit code; here is the exact text of each."""

import json
import os
import re

import pytest
from command import ask, spawn
from goodspec import GOOD

from archcalc import Invalid, Missing, check, load
from archcalc.spec.catalogue import find
from archcalc.spec.model import Model
from archcalc.spec.source import LARGEST_FILE
from archcalc.spec.validation import validate


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(content=GOOD, **replace):
        data = content if isinstance(content, bytes) else content.encode()
        for old, new in replace.get("edits", []):
            assert old.encode() in data
            data = data.replace(old.encode(), new.encode())
        (tmp_path / "s.yaml").write_bytes(data)
        return "s.yaml"

    return write


def test_the_good_spec_is_good(spec):
    assert check(spec()) == []
    assert ask("params", "s.yaml").code == 0


EDITS = {
    "unknown field": (
        ("n_heads: 4", "n_haeds: 4"),
        "s.yaml:11:16: layers.0.attention.n_heads: is missing\n"
        "s.yaml:11:35: layers.0.attention.n_haeds: unknown field; did you mean 'n_heads'?\n",
    ),
    "unknown field, nothing near": (("vocab_size:", "zzz: 1\nvocab_size:"), "s.yaml:4:1: zzz: unknown field\n"),
    "unknown field in a kind": (
        ("d_ff: 11", "d_ff: 11, lora: true"),
        "s.yaml:12:34: layers.0.mlp.lora: LoRA adapters are not supported yet\n",
    ),
    "missing field": (("vocab_size: 10\n", ""), "s.yaml:1:1: vocab_size: is missing\n"),
    "missing kind": (("{kind: plain, ", "{"), "s.yaml:12:10: layers.0.mlp.kind: is missing\n"),
    "unknown kind": (
        ("kind: plain", "kind: plian"),
        "s.yaml:12:17: layers.0.mlp.kind: must be plain or gated or experts; got 'plian'; did you mean 'plain'?\n",
    ),
    "unknown word": (
        ("gelu_tanh", "mish"),
        "s.yaml:12:46: layers.0.mlp.activation: this activation is not supported yet; got 'mish'; supported: gelu_tanh, "
        "gelu, gelu_quick, relu, relu2, silu, xielu\n",
    ),
    "duplicate field": (
        ("vocab_size: 10\n", "vocab_size: 10\nvocab_size: 11\n"),
        "s.yaml:5:1: vocab_size: duplicate field, first in line 4\n",
    ),
    "text for an integer": (
        ("vocab_size: 10", "vocab_size: ten"),
        "s.yaml:4:13: vocab_size: must be an integer; got 'ten'\n",
    ),
    "quoted integer": (
        ("vocab_size: 10", 'vocab_size: "10"'),
        "s.yaml:4:13: vocab_size: must be an integer; got '10'\n",
    ),
    "fraction": (("d_ff: 11", "d_ff: 11.5"), "s.yaml:12:30: layers.0.mlp.d_ff: must be an integer; got 11.5\n"),
    "boolean for an integer": (
        ("d_ff: 11", "d_ff: true"),
        "s.yaml:12:30: layers.0.mlp.d_ff: must be an integer; got true\n",
    ),
    "yes for a boolean": (
        ("tied: true", "tied: yes"),
        "s.yaml:14:21: unembedding.tied: must be true or false; got 'yes'\n",
    ),
    "null": (("vocab_size: 10", "vocab_size:"), "s.yaml:4:12: vocab_size: must be an integer; got null\n"),
    "zero": (("vocab_size: 10", "vocab_size: 0"), "s.yaml:4:13: vocab_size: must be at least 1; got 0\n"),
    "negative": (("d_head: 2", "d_head: -2"), "s.yaml:11:70: layers.0.attention.d_head: must be at least 1; got -2\n"),
    "absurdly large": (
        ("vocab_size: 10", "vocab_size: 1e30"),
        "s.yaml:4:13: vocab_size: must be at most 4,294,967,296; got 1000000000000000000000000000000\n",
    ),
    "too many layers": (
        ("repeat: 2", "repeat: 10001"),
        "s.yaml:9:13: layers.0.repeat: must be at most 10,000; got 10001\n",
    ),
    "infinity": (("vocab_size: 10", "vocab_size: .inf"), "s.yaml:4:13: vocab_size: must be an integer; got inf\n"),
    "a number too long": (
        ("vocab_size: 10", "vocab_size: " + "1" * 41),
        "s.yaml:4:13: vocab_size: a number longer than 40 characters\n",
    ),
    "a list for a mapping": (
        ("{tied: true, bias: false}", "[tied]"),
        "s.yaml:14:14: unembedding: must be a mapping; got ['tied']\n",
    ),
    "text for a slot": (
        ("final_norm: {kind: layernorm, bias: true}", "final_norm: layernorm"),
        "s.yaml:13:13: final_norm: must be a mapping; got 'layernorm'\n",
    ),
    "a mapping for a list": (
        ("layers:\n  - repeat: 2\n    norm", "layers:\n    repeat: 2\n    norm"),
        "s.yaml:9:5: layers: must be a list; got {'repeat': 2, 'norm': {'kind': 'layernorm', 'bias': true}...\n",
    ),
    "n_heads no multiple of n_kv_heads": (
        ("n_kv_heads: 2", "n_kv_heads: 3"),
        "s.yaml:11:59: layers.0.attention.n_kv_heads: must divide n_heads (4); got 3; nearest: 2 or 4\n",
    ),
    "an alias": (
        ("vocab_size: 10\n", "vocab_size: &n 10\nd: *n\n"),
        "s.yaml:5:4: d: alias 'n': aliases are not supported; write the value out\n",
    ),
    "a tag": (
        ("vocab_size: 10", "vocab_size: !!int 10"),
        "s.yaml:4:13: vocab_size: tag 'tag:yaml.org,2002:int': tags are not supported; write plain YAML\n",
    ),
    "a merge key": (
        ("vocab_size: 10", "<<: {vocab_size: 10}"),
        "s.yaml:4:1: merge keys (<<) are not supported; write the fields out\n",
    ),
    "a key that is a list": (("vocab_size: 10", "? [a]\n: 10"), "s.yaml:4:3: a key must be a word\n"),
    "a second document": (
        ("vocab_size: 10", "vocab_size: 10\n---\na: 1"),
        "s.yaml:5:1: a second document begins; a spec is one document\n",
    ),
    "broken YAML": (
        ("{positions: learned}", "{positions: learned"),
        "s.yaml:8:7: is not YAML: did not find expected ',' or '}'\n",
    ),
    "a control character": (
        ("this test", "this \x1b test"),
        "s.yaml: is not YAML: control characters are not allowed\n",
    ),
    "an escape in a key": (
        ("vocab_size: 10", '"\\e[31m": 10'),
        "s.yaml:1:1: vocab_size: is missing\ns.yaml:4:1: \\x1b[31m: unknown field\n",
    ),
    "a name that is a path": (
        ("name: good", "name: ../good"),
        "s.yaml:2:7: name: must be letters, digits, '.', '_' and '-', and begin with a letter or a digit; "
        "got '../good'\n",
    ),
    "a name without end": (
        ("name: good", "name: " + "a" * 101),
        f"s.yaml:2:7: name: must have at most 100 characters; got '{'a' * 56}...\n",
    ),
    "another program's name": (
        ("n_heads: 4", "n_head: 4"),
        "s.yaml:11:16: layers.0.attention.n_heads: is missing\n"
        "s.yaml:11:35: layers.0.attention.n_head: unknown field; here it is called 'n_heads'\n",
    ),
    "another program's name, in another place": (
        ("d_model: 8", "d_model: 8\nn_head: 4"),
        "s.yaml:7:1: n_head: unknown field; here it is 'n_heads', in another place\n",
    ),
    "a flag": (
        ("d_model: 8", "d_model: 8\nbatch: 4"),
        "s.yaml:7:1: batch: unknown field; --batch sets it on the command line\n",
    ),
    "what is not supported, and off": (
        ("d_ff: 11", "d_ff: 11, lora: null"),
        "s.yaml:12:34: layers.0.mlp.lora: unknown field; leave it out: LoRA adapters are not supported yet\n",
    ),
    "another program's word": (
        ("gelu_tanh", "gelu_new"),
        "s.yaml:12:46: layers.0.mlp.activation: must be gelu_tanh or gelu or gelu_quick or relu or relu2 or silu or "
        "xielu; got 'gelu_new'; here it is called 'gelu_tanh'\n",
    ),
    "another program's kind": (
        ("kind: plain", "kind: swiglu"),
        "s.yaml:12:17: layers.0.mlp.kind: must be plain or gated or experts; got 'swiglu'; here it is called 'gated'\n",
    ),
    "a kind that is a number": (
        ("kind: plain", "kind: 7"),
        "s.yaml:12:17: layers.0.mlp.kind: must be plain or gated or experts; got 7\n",
    ),
    "a number for a text": (('source: "this test"', "source: 7"), "s.yaml:3:9: source: must be text; got 7\n"),
    "an empty text": (('source: "this test"', 'source: ""'), "s.yaml:3:9: source: must not be empty; got ''\n"),
    "no layers": (
        (GOOD[GOOD.index("layers:") : GOOD.index("final_norm")], "layers: []\n"),
        "s.yaml:8:9: layers: must not be empty; got []\n",
    ),
    "another schema": (("schema: 0", "schema: 1"), "s.yaml:1:9: schema: must be 0; got 1\n"),
    "a printed figure of two things": (
        ("unembedding:", "published: [{text: a, status: nominal, source: b, tally: 1, matrices: 2}]\nunembedding:"),
        "s.yaml:14:13: published.0: must have exactly one of parameters, active, tally and matrices\n",
    ),
    "a spread that is no number": (
        ("unembedding:", "initialization: {std: wide}\nunembedding:"),
        "s.yaml:14:23: initialization.std: must be a number; got 'wide'\n",
    ),
    "a base that is no number": (
        ("bias: true}\n    mlp", "bias: true, rotary: {d_rotary: 2, theta: .nan}}\n    mlp"),
        "s.yaml:11:114: layers.0.attention.rotary.theta: must be a finite number; got nan\n",
    ),
    "a base beyond all numbers": (
        ("bias: true}\n    mlp", "bias: true, rotary: {d_rotary: 2, theta: .inf}}\n    mlp"),
        "s.yaml:11:114: layers.0.attention.rotary.theta: must be a finite number; got inf\n",
    ),
    "a spread of nothing": (
        ("unembedding:", "initialization: {std: 0}\nunembedding:"),
        "s.yaml:14:23: initialization.std: must be more than 0; got 0\n",
    ),
}


@pytest.mark.parametrize(("edit", "text"), EDITS.values(), ids=EDITS)
def test_a_malformed_spec_is_told_where_and_what(spec, edit, text):
    answer = ask("params", spec(edits=[edit]))
    assert (answer.err, answer.code, answer.out) == (text, 2, "")
    checked = ask("check", "s.yaml")
    under_its_rule = text.replace("\n", " [AC001]\n")
    assert (checked.err, checked.code) == (under_its_rule, 1)
    assert "".join(f"{problem}\n" for problem in check("s.yaml")) == under_its_rule


WHOLE = {
    "empty": (b"", "s.yaml: is empty; `archcalc schema` describes a spec or a plan\n"),
    "only a comment": (b"# nothing\n", "s.yaml: is empty; `archcalc schema` describes a spec or a plan\n"),
    "only null": (b"---\n", "s.yaml:2:1: must be a mapping; got null\n"),
    "binary": (b"\x7fELF\0\xff\xfe", "s.yaml: is a binary file\n"),
    "UTF-16": ("schema: 0\n".encode("utf-16"), "s.yaml: is UTF-16, not UTF-8; save it as UTF-8\n"),
    "UTF-16 without a mark": ("schema: 0\n".encode("utf-16-be"), "s.yaml: is UTF-16, not UTF-8; save it as UTF-8\n"),
    "UTF-32": ("schema: 0\n".encode("utf-32"), "s.yaml: is UTF-32, not UTF-8; save it as UTF-8\n"),
    "zero bytes": (b"a: 1\0", "s.yaml: is a binary file\n"),
    "not UTF-8": (b"schema: 0\nname: caf\xe9\n", "s.yaml:2:10: is not UTF-8; got b'\\xe9'\n"),
    "a list": (b"- a\n- b\n", "s.yaml:1:1: must be a mapping; got ['a', 'b']\n"),
    "a word": (b"transformer\n", "s.yaml:1:1: must be a mapping; got 'transformer'\n"),
    "too large": (b"a" * (LARGEST_FILE + 1), "s.yaml: is larger than 1,048,576 bytes, the most that is read\n"),
    "30,000 levels": (b"[" * 30_000, "s.yaml:1:65: 0.0.0.0.0.0.0.0: nested deeper than 64 levels\n"),
    "30,000 levels of mappings": (b"{a: " * 30_000, "s.yaml:1:257: a.a.a.a.a.a.a.a: nested deeper than 64 levels\n"),
    "60,000 values": (b"[" + b"1," * 60_000 + b"]", "s.yaml:1:100000: 49999: more than 50,000 values\n"),
    "a long text": (b"a: " + b"x" * 70_000, "s.yaml:1:4: a: a value longer than 65,536 characters\n"),
}


@pytest.mark.parametrize(("content", "text"), WHOLE.values(), ids=WHOLE)
def test_what_is_no_spec_at_all_is_told_at_once(spec, content, text):
    answer = ask("params", spec(content))
    assert (answer.err, answer.code) == (text, 2)


@pytest.mark.parametrize("levels", [65, 999, 1_000, 1_001, 2_000])
@pytest.mark.parametrize("one", ["[", "{a: ", "- ", "[{a: "])
def test_our_own_bound_of_depth_answers_before_libyaml_s(spec, levels, one):
    """libyaml 0.2.6 has a bound of 1,000 levels, and looks ahead of what it hands out."""
    err = ask("params", spec((one * levels).encode())).err
    assert err.startswith("s.yaml:1:")
    assert err.endswith(": nested deeper than 64 levels\n")


def test_levels_behind_what_is_no_yaml_are_one_line_whichever_libyaml_refuses(spec):
    answer = ask("params", spec(b"x: y\n" + b"[" * 5_000))
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "nested deeper than 64 levels" in answer.err or "is not YAML" in answer.err


def test_depth_and_values_are_allowed_up_to_their_bounds(spec):
    assert "nested deeper" not in ask("params", spec(b"[" * 64 + b"]" * 64)).err
    assert "more than" not in ask("params", spec(b"[" + b"1," * 49_999 + b"]")).err
    assert "longer" not in ask("params", spec(b"a: " + b"x" * 65_536)).err
    assert "longer" not in ask("params", spec(b"a: " + b"1" * 40)).err


def test_at_most_twenty_problems_are_told_and_then_a_count(spec):
    many = "".join(f"x{i}: 1\n" for i in range(30))
    lines = ask("params", spec(GOOD + many)).err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 10 more"
    assert len(check("s.yaml")) == 30


NAMES = {
    "unknown": (["params", "gpt4"], 2, "gpt4: is not in the catalogue; nearest: gpt2, gpt1\n"),
    "a typing error with a dot": (
        ["params", "gpt3-2.8b"],
        2,
        "gpt3-2.8b: is not in the catalogue; nearest: gpt3-2.7b, gpt3-6.7b, opt-2.7b\n",
    ),
    "nothing near": (["params", "%"], 2, "%: is not in the catalogue; `archcalc list` shows the catalogue\n"),
    "escapes": (["params", "\x1b[2J.yaml"], 3, "\\x1b[2J.yaml: no such file\n"),
    "no file": (["params", "nope.yaml"], 3, "nope.yaml: no such file\n"),
    "no folder": (["params", "no/where"], 3, "no/where: no such file\n"),
    "a directory": (
        ["params", "./"],
        2,
        "./: is a directory; give the path of a YAML file in it, or a folder with a config.json\n",
    ),
    "config.json": (["params", "config.json"], 3, "config.json: no such file\n"),
    "an empty name": (["params", ""], 2, "SPEC: is not in the catalogue; `archcalc list` shows the catalogue\n"),
    "a zero byte": (["params", "a/\0"], 2, "a/\\x00: cannot be read: embedded null byte\n"),
}


@pytest.mark.parametrize(("arguments", "code", "text"), NAMES.values(), ids=NAMES)
def test_a_spec_that_is_not_there_is_told(arguments, code, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = ask(*arguments)
    assert (answer.err, answer.code, answer.out) == (text, code, "")


def test_an_unreadable_file_is_told(spec):
    path = spec()
    os.chmod(path, 0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads everything")
    assert ask("params", path).err == "s.yaml: cannot be read: Permission denied\n"


def test_standard_input_has_a_name_of_its_own():
    answer = spawn("params", "-", stdin=b"schema: 1\n")
    assert answer.code == 2
    assert answer.err.splitlines()[0].startswith("<stdin>:1:1: ")
    assert "<stdin>:1:9: schema: must be 0; got 1" in answer.err.splitlines()
    assert spawn("params", "-", stdin=GOOD.encode()).out.startswith("good: ")


FLAGS = {
    "no such option": (["params", "gpt2", "--fromat", "json"], "archcalc params: no such option: --fromat"),
    "no such format": (["params", "gpt2", "--format", "xml"], "--format: 'xml' is not one of"),
    "no such view": (["params", "gpt2", "--by", "head"], "--by: 'head' is not one of"),
    "no such command": (["parms", "gpt2"], "archcalc: no such command 'parms'; did you mean 'params'?"),
    "too many": (["params", "gpt2", "gpt3-xl"], "archcalc params: got unexpected extra argument"),
    "too few": (["params"], "archcalc params: missing argument 'SPEC'"),
    "no value": (["params", "gpt2", "--format"], "archcalc: option '--format' requires an argument"),
    "too long": (["trace", "gpt2", "--seq", "2k"], "--seq: must be from 1 to 1,024; got 2,048"),
    "no length": (["trace", "gpt2", "--seq", "abc"], "--seq: must be an integer; 32k is 32,768; got 'abc'"),
    "a fraction": (["trace", "gpt2", "--seq", "1.5"], "--seq: must be an integer; 32k is 32,768; got '1.5'"),
    "zero": (["trace", "gpt2", "--seq", "0"], "--seq: must be from 1 to 1,024; got 0"),
    "no batch": (["trace", "gpt2", "--batch", "0"], "--batch: must be from 1 to 4,294,967,296; got 0"),
    "no kernel": (["trace", "gpt2", "--attention", "slow"], "--attention: 'slow' is not one of"),
    "no suffix": (["params", "gpt2", "-o", "x.foo"], "--output: has no suffix of .txt, .md, .json, .csv; got 'x.foo'; name it with --format"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "text"), FLAGS.values(), ids=FLAGS)
def test_a_bad_flag_is_one_line_and_exit_code_2(arguments, text):
    answer = ask(*arguments)
    assert answer.err.startswith(text)
    assert answer.err.count("\n") == 1
    assert (answer.code, answer.out) == (2, "")


def test_a_bug_of_ours_shows_no_traceback(monkeypatch):
    monkeypatch.setattr("archcalc.counts.asked.params", lambda _: 1 / 0)
    answer = ask("params", "gpt2")
    assert answer.code == 70
    assert (
        answer.err
        == "archcalc: internal error: ZeroDivisionError: division by zero; please report it; ARCHCALC_DEBUG=1 shows the traceback\n"
    )
    monkeypatch.setenv("ARCHCALC_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        ask("params", "gpt2")


def test_the_library_raises_the_same_problems(spec):
    with pytest.raises(Invalid) as invalid:
        load(spec(edits=[("d_ff: 11", "d_ff: eleven")]))
    (problem,) = invalid.value.problems
    assert (problem.file, problem.line, problem.column, problem.path) == ("s.yaml", 12, 30, "layers.0.mlp.d_ff")
    assert (problem.message, problem.value, problem.suggestion) == ("must be an integer", "'eleven'", None)
    with pytest.raises(Missing):
        load("nope.yaml")
    assert [str(p) for p in check("nope.yaml")] == ["nope.yaml: no such file [AC001]"]


def test_a_printed_figure_that_does_not_hold_is_found_in_its_place(spec):
    published = "published:\n  - {text: 1M, parameters: 1e6, digits: 1, status: counted, source: s}\n"
    (problem,) = check(spec(GOOD + published))
    # 10*8 token + 7*8 positions, two layers of 8*8 query + 2*4*8 key, value + 8*8 output, biases 8+4+4+8, two norms
    # of 2*8, 2*8*11 + 11 + 8 MLP, a final norm of 2*8
    stored = 136 + 2 * (64 + 64 + 64 + 24 + 32 + 195) + 16
    assert str(problem) == f"s.yaml:16:5: published.0: parameters 1M does not hold; got {stored:,} [AC101]"
    assert ask("check", "s.yaml").code == 1


FORMS = {
    "a kind that alternates itself": (
        "{repeat: 2, pattern: [a], kinds: {a: {pattern: [b], kinds: {}}}}",
        "layers.0.kinds.a.pattern: unknown field",
    ),
    "a norm beside branches": (
        "{repeat: 2, norm: null, branches: []}",
        "layers.0.norm: unknown field; another kind or form of this has it",
    ),
    "too long a pattern": (
        f"{{repeat: 65, pattern: [{', '.join(['a'] * 10_001)}], kinds: {{a: {{branches: []}}}}}}",
        "layers.0.pattern: must have at most 10,000 items",
    ),
}


@pytest.mark.parametrize(("layers", "said"), FORMS.values(), ids=FORMS)
def test_a_group_of_no_form_is_told_in_words(layers, said, tmp_path):
    (tmp_path / "s.yaml").write_text(re.sub(r"(?ms)^layers:\n.*?(?=^\S)", f"layers: [{layers}]\n", GOOD))
    answer = ask("params", str(tmp_path / "s.yaml"))
    assert answer.code == 2
    assert said in answer.err


def test_a_wrong_name_of_a_kind_is_told_once_where_it_is_given(tmp_path):
    layers = '{repeat: 4, pattern: ["a b", "a b", "a b"], kinds: {"a b": {branches: []}}}'
    (tmp_path / "s.yaml").write_text(re.sub(r"(?ms)^layers:\n.*?(?=^\S)", f"layers: [{layers}]\n", GOOD))
    with pytest.raises(Invalid) as error:
        load(str(tmp_path / "s.yaml"))
    (one,) = [problem for problem in error.value.problems if "small letters" in problem.message]
    assert (one.path, one.column) == ("layers.0.kinds.a b", 1 + f"layers: [{layers}]".index('"a b": '))
    assert [problem.path for problem in error.value.problems] == [one.path, f"{one.path}.branches"]


def test_a_spec_is_not_written_over_the_config_that_it_came_from(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('\ufeff{"model_type": "llama"}')
    answer = ask("import", str(path), "-o", str(path))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("--output: a spec is written as YAML; got ")
    assert path.read_text() == '\ufeff{"model_type": "llama"}'
    assert ask("params", "-", stdin=path.read_bytes()).code == 0  # the mark of its encoding is no part of it


@pytest.mark.parametrize("name", ["~", "~two_branch", "~x", '"~"'])
def test_a_field_may_be_called_as_the_reader_s_own_marks_are(tmp_path, name):
    """`~` is null as a value, and a name as a key."""
    path = tmp_path / "s.yaml"
    path.write_text(GOOD + f"{name}: 1\n")
    with pytest.raises(Invalid) as error:
        load(path)
    place = f"{path}:{1 + GOOD.count(chr(10))}:1"
    assert str(error.value) == f"{place}: {name.strip(chr(34))}: unknown field"


def test_what_a_spec_of_a_config_breaks_is_told_by_the_keys_of_the_file(tmp_path):
    """The readers of families refuse first what they know of; what they let through is placed in the file too."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "gpt2", "n_embd": 12, "n_head": 3, "n_layer": 1, "vocab_size": 9}))
    document = find(str(path)).document
    document.data["d_model"] = "wide"
    document.data["layers"][0]["repeat"] = None
    with pytest.raises(Invalid) as error:
        validate(document, Model)
    assert str(error.value).splitlines() == [
        f"{path}: n_embd: must be an integer; got 12",
        f"{path}: n_layer: must be an integer; got 1",
    ]
