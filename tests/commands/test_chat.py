"""A talk: the text of its turns, the cache that is kept, the turns that leave, and the terminal."""

import io
import json
import os
import sys

import pytest
from command import ask
from outside import byte_level

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("jinja2")

import archcalc  # noqa: E402
from archcalc.errors import Invalid  # noqa: E402
from archcalc_reference import Transformer  # noqa: E402
from archcalc_reference.model.generation import generate  # noqa: E402
from archcalc_reference.model.sampling import Sampling  # noqa: E402
from archcalc_reference.text.talk import Talk  # noqa: E402
from archcalc_reference.text.template import Message, Own, Plain, read_template  # noqa: E402
from archcalc_reference.text.tokenizer import ByteTokenizer, read_ends, read_tokenizer  # noqa: E402
from archcalc_reference.weights.folder import save_weights  # noqa: E402

GREEDY = Sampling(temperature=0)
SPEC = "tiny@context_length=128"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    found = Transformer(archcalc.load(SPEC))
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.mul_(3)
    return found.eval()


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("chat") / "weights")
    save_weights(model, folder)
    return folder


@pytest.fixture
def piped(monkeypatch):
    """Run `chat` in this process with so much standard input."""

    def run(*arguments, stdin):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return ask("chat", *arguments)

    return run


def say(talk, text, tokens=8):
    """One turn, greedily; what it took and the tokens that came."""
    turn = talk.hear(text, tokens)
    drawn = [step.tokens_N[0] for step in talk.answer(tokens, GREEDY)]
    talk.answered(talk.tokenizer.decode(drawn).strip())
    return turn, drawn


def alone(talk, said, tokens=8):
    """The tokens that a model without a cache draws after the same messages."""
    ids = talk.tokenizer.encode(talk.template.render(said))
    return [step.tokens_N[0] for step in generate(talk.model, ids, tokens, GREEDY, cached=False)]


def test_a_plain_model_sees_a_play_of_two_parts():
    said = [Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "No")]
    assert Plain().render(said) == "Be brief.\n\nUser: Hi\n\nAI Assistant: Yes?\n\nUser: No\n\nAI Assistant:"
    assert Plain().render(said[1:2]) == "User: Hi\n\nAI Assistant:"


def test_the_cache_is_kept_and_changes_no_token(model):
    talk = Talk(model, ByteTokenizer(), Plain(), system="So:")
    said, before = [Message("system", "So:")], 0
    for text in ("Hi", "You", "ok"):
        said.append(Message("user", text))
        expected = alone(talk, said)
        turn, drawn = say(talk, text)
        assert drawn == expected
        said = talk.messages
        assert turn.tokens == len(Plain().render(said[:-1]).encode())
        assert turn.gone == 0
        assert turn.held >= before  # all that stood there before the last answer
        before = turn.tokens


class Letters(ByteTokenizer):
    """Each byte is a letter, so that every answer comes back as it was drawn."""

    def encode(self, text):
        return list(text.encode("latin-1"))

    def decode(self, ids):
        return bytes(ids).decode("latin-1")


class Marks(Plain):
    def render(self, messages):
        return "".join(f"<{m.role[0]}{m.content}" for m in messages) + "<a"


def test_a_turn_reads_what_is_new_and_nothing_else(model):
    """All that was said and answered is in the cache but the last token, which nothing was drawn after."""
    talk = Talk(model, Letters(), Marks())
    for turns, text in enumerate(["abc", "de", "f", "ghij"]):
        before = len(Marks().render(talk.messages)) if turns else 0
        turn = talk.hear(text, 4)
        assert turn.held == max(before - len("<a") - 1, 0)
        drawn = [step.tokens_N[0] for step in talk.answer(4, GREEDY)]
        assert drawn == alone(talk, talk.messages, 4)
        talk.answered(talk.tokenizer.decode(drawn))


def test_the_oldest_turns_leave_and_the_system_prompt_stays(model):
    talk = Talk(model, ByteTokenizer(), Plain(), system="Sys")
    gone = []
    for i in range(8):
        before = [*talk.messages, Message("user", f"number {i}")]
        turn, drawn = say(talk, f"number {i}")
        kept = talk.messages[:-1]
        assert turn.tokens + 8 <= 128
        assert turn.gone_tokens == len(Plain().render(before).encode()) - len(Plain().render(kept).encode())
        assert kept[0] == Message("system", "Sys")
        assert kept[1:] == before[1 + turn.gone :]  # the oldest, and no others
        assert turn.gone % 2 == 0  # a question goes with its answer
        assert drawn == alone(talk, kept)
        gone.append(turn.gone)
        if turn.gone:  # and no more than had to: with the last that left there was no room
            more = [kept[0], *before[1 + turn.gone - 2 :]]
            assert len(Plain().render(more).encode()) + 8 > 128
    assert sum(gone) > 0


def test_what_has_no_place_is_refused_and_nothing_is_lost(model):
    talk = Talk(model, ByteTokenizer(), Plain())
    say(talk, "Hi")
    before = talk.messages
    with pytest.raises(
        Invalid, match="takes 221 tokens with the conversation so far; the context of 128 leaves no room"
    ):
        talk.hear("x" * 200, 8)  # User: + 200 + \n\nAI Assistant: = 6 + 200 + 15
    assert talk.messages == before
    turn, drawn = say(talk, "ok")
    assert turn.gone == 0
    assert len(drawn) == 8


def test_an_answer_ends_where_the_model_says_so(model):
    first = Talk(model, ByteTokenizer(), Plain())
    _, drawn = say(first, "Hi")
    talk = Talk(model, ByteTokenizer(), Plain(), ends=frozenset({drawn[3]}))
    assert say(talk, "Hi")[1] == drawn[: drawn.index(drawn[3])]


TEMPLATES = {
    "chatml": (
        "{% for m in messages %}\n{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}\n"
        "{% endfor %}\n{% if add_generation_prompt %}\n{{ '<|im_start|>assistant\\n' }}\n{% endif %}"
    ),
    "brackets": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
        "{% elif m.role == 'system' %}<<{{ m.content }}>>{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    "what is not there, and marks of an answer": (
        "{% if tools is not none %}tools{% endif %}{% if documents is none %}no documents{% endif %}"
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %}{% endfor %}"
    ),
    "json of every kind": (
        "{{ messages | tojson(indent=2, sort_keys=true) }}{{ messages[0] | tojson(separators=(',', ':')) }}"
        "{{ messages[3] | tojson(ensure_ascii=true) }}{{ messages[3] | tojson }}"
    ),
    "json, loops that break, a namespace": (
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% if loop.index > 3 %}{% break %}{% endif %}"
        "{% set ns.n = ns.n + 1 %}\n    {{ m | tojson }}{% endfor %}{{ ns.n }}<é & ü>"
    ),
}
SAID = [
    Message("system", "Sei kurz & gut."),
    Message("user", " Hi <b>  "),
    Message("assistant", "Ja?"),
    Message("user", "模型"),
]


def chat_folder(folder, template, **settings):
    """A tokenizer with a chat template, as transformers writes it."""
    transformers = pytest.importorskip("transformers")
    fast = byte_level(["a user and an assistant\n"] * 9, 300, "<|im_start|>", "<|im_end|>", "<s>", "</s>")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=fast, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder, **settings)
    return tokenizer


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("inside", [False, True])
def test_a_checkpoint_s_template_says_what_transformers_says(tmp_path, name, inside):
    """Old folders have the template in tokenizer_config.json, new ones in a file of its own."""
    theirs = chat_folder(tmp_path, TEMPLATES[name], save_jinja_files=not inside)
    assert (tmp_path / "chat_template.jinja").exists() is not inside
    told = [message._asdict() for message in SAID]
    ours = read_template(str(tmp_path))
    expected = theirs.apply_chat_template(told, tokenize=False, add_generation_prompt=True)
    assert ours.render(SAID) == expected
    ids = read_tokenizer(str(tmp_path)).encode(expected)
    assert ids == theirs(expected, add_special_tokens=False)["input_ids"]
    if name == "chatml":
        assert ids.count(theirs.convert_tokens_to_ids("<|im_end|>")) == 4


def test_a_template_of_several_is_the_default_one(tmp_path):
    settings = {"chat_template": [{"name": "tool", "template": "no"}, {"name": "default", "template": "yes"}]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert read_template(str(tmp_path)).render(SAID) == "yes"


def test_the_end_is_what_the_folder_calls_it(tmp_path):
    tokenizer = chat_folder(tmp_path, "")
    end, started = (tokenizer.convert_tokens_to_ids(word) for word in ("</s>", "<|im_end|>"))
    ours = read_tokenizer(str(tmp_path))
    assert read_ends(str(tmp_path), ours) == {end}
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [started, 50_256]}))
    assert read_ends(str(tmp_path), ours) == {end, started}  # and none that the vocabulary lacks
    assert read_ends(str(tmp_path), ByteTokenizer()) == frozenset()


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("{% for m in messages %}", "t: is not a valid chat template: "),
        ("{{ raise_exception('no system here') }}", "t: refuses this conversation: no system here"),
        ("{{ messages[0].nothing.more }}", "t: fails: "),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "t: fails: "),
        ("{{ messages.append(1) }}", "t: fails: "),
        ("{% for i in range(999999999) %}x{% endfor %}", "t: fails: "),
        ("", "t: renders this conversation as an empty text"),
        ("{# nothing #}", "t: renders this conversation as an empty text"),
        ("{{" + "(" * 20_000, "t: is not a valid chat template: "),
        ("{{ " + "1" * 5_000 + " }}", "t: is not a valid chat template: "),
    ],
)
def test_a_template_that_cannot_be_used_is_one_line(source, line):
    with pytest.raises(Invalid) as caught:
        Own("t", source, {}).render(SAID)
    message = str(caught.value)
    assert message.replace("t:1:1: ", "t: ").startswith(line)
    assert "\n" not in message


def test_a_list_without_a_default_is_no_template(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": [{"name": "tool", "template": "x"}]}')
    with pytest.raises(Invalid, match="chat_template: has no template named default"):
        read_template(str(tmp_path))


def test_settings_that_hold_no_template_are_one_line(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": 7}')
    with pytest.raises(Invalid, match="chat_template: must be text or a list of templates; got int"):
        read_template(str(tmp_path))


def test_lines_of_standard_input_are_turns(piped, weights):
    done = piped(SPEC, "--weights", weights, "--system", "", "--max-tokens", "5", stdin=b"Hi\n\nWho?\n")
    assert done.code == 0, done.err
    assert done.out.count("User: ") == done.out.count("AI Assistant:") == 2
    assert done.out.startswith("User: Hi\nAI Assistant:")
    size = 128 * 5 * 2 * 128 * 4  # positions x layers x (keys, values) x features x bytes
    assert done.err.endswith(f"2 turns; the KV cache takes {size:,} bytes, as counted\n")
    assert "[23 new tokens read after 0 in the cache; " in done.err  # User: Hi, blank line, AI Assistant:
    again = piped(SPEC, "--weights", weights, "--system", "", "--max-tokens", "5", stdin=b"Hi\nWho?")
    assert again.out == done.out


def test_each_turn_draws_from_a_seed_of_its_own_and_the_same_talk_is_the_same(piped, weights):
    """No turn fits beside another here, so that the model sees the same text each time: only the draws differ."""
    asked = (SPEC, "--weights", weights, "--system", "", "--max-tokens", "60", "--temperature", "3")
    once = piped(*asked, stdin=b"xxxxxxxxxxxxxxxxxxxx\n" * 3)
    answers = [part.partition("AI Assistant:")[2] for part in once.out.split("User: ")[1:]]
    assert len(set(answers)) == 3
    assert piped(*asked, stdin=b"xxxxxxxxxxxxxxxxxxxx\n" * 3).out == once.out


def test_a_penalty_bears_on_the_whole_conversation(model):
    """What the cache holds from earlier turns too: logits are those of the whole text, read at once."""
    talk, asked = Talk(model, ByteTokenizer(), Plain()), Sampling(0, repetition_penalty=3)
    for text in ("Hi", "ab"):
        turn = talk.hear(text, 8)
        ids = talk.tokenizer.encode(talk.template.render(talk.messages))
        for ours, whole in zip(talk.answer(8, asked), generate(model, ids, 8, asked), strict=True):
            assert ours.tokens_N == whole.tokens_N
            assert torch.allclose(ours.logits_NV, whole.logits_NV, atol=0.05)
        talk.answered("xyz")
    assert turn.held > 20


def test_the_penalty_of_the_flag_is_that_of_the_answer(piped, weights):
    asked = (SPEC, "--weights", weights, "--system", "", "--max-tokens", "20", "--temperature", "0")
    plain = piped(*asked, stdin=b"Hi\n").out
    assert piped(*asked, "--repetition-penalty", "1", stdin=b"Hi\n").out == plain
    assert piped(*asked, "--repetition-penalty", "1e6", stdin=b"Hi\n").out != plain


def test_an_answer_is_kept_without_the_blanks_around_it(weights):
    from archcalc.commands import chat
    from archcalc.commands.session import Session
    from archcalc.spec.catalogue import find

    session = Session.load(find(SPEC), weights)
    talk = chat._begun(session, "")
    said = iter([b"  ", b"yes", b"\n", b"\n"])
    session.tokenizer.token_bytes = lambda _: next(said)
    chat._turn(session, talk, "Hi", 4, GREEDY)
    assert talk.messages[-1] == Message("assistant", "yes")


def test_when_the_context_is_full_it_says_what_left(piped, weights):
    talk = "".join(f"number {i}\n" for i in range(8)).encode()
    done = piped(SPEC, "--weights", weights, "--system", "Sys", "--max-tokens", "8", stdin=talk)
    assert done.code == 0, done.err
    assert "the context is full: dropped the oldest 2 messages (" in done.err
    assert " after the system prompt\n" in done.err


def test_a_checkpoint_s_template_and_end_are_used(piped, tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / "w"
    save_weights(Transformer(archcalc.load("tiny@vocab_size=300")), str(folder))
    chat_folder(folder, TEMPLATES["chatml"])
    done = piped("tiny@vocab_size=300", "--weights", str(folder), "--max-tokens", "3", stdin=b"Hi\n")
    assert done.code == 0, done.err
    assert f"conversation with the template of {folder}/chat_template.jinja, " in done.err
    assert done.out.startswith("User: Hi\nAssistant: ")


@pytest.mark.parametrize(
    ("flags", "stdin", "code", "line"),
    [
        ([], b"", 2, "<stdin>: is empty; each line is one turn"),
        ([], b"Hi \xff\n", 2, "<stdin>:1:4: is not UTF-8; got b'\\xff'"),
        ([], b"Hi\nHi \xff\n", 2, "<stdin>:2:4: is not UTF-8; got b'\\xff'"),
        (["--system", "x" * 128], b"Hi\n", 2, "--system: has 128 tokens; the context holds 128, which leaves no room"),
        (["--system", "x" * 120], b"Hi\n", 2, "the message: takes 145 tokens with the conversation so far; "),
        (["--max-tokens", "0"], b"Hi\n", 2, "--max-tokens: must be from 1 to "),
        (["--top-p", "2"], b"Hi\n", 2, "--top-p: must be more than 0 and at most 1; got '2'"),
    ],
)
def test_what_cannot_be_said_is_one_line(piped, weights, flags, stdin, code, line):
    done = piped(SPEC, "--weights", weights, *flags, stdin=stdin)
    assert done.code == code
    assert done.err.splitlines()[-1].startswith(line)
    assert "Traceback" not in done.err


def test_lines_without_end_are_bounded(piped, weights):
    done = piped(SPEC, "--weights", weights, stdin=b"\n" * 10_001)
    assert done.code == 2
    assert done.err.endswith("<stdin>: has more than 10,000 lines, the most that are read as turns\n")
    done = piped(SPEC, "--weights", weights, stdin=b"x" * (2**20 + 1))
    assert done.err.endswith("<stdin>: has a line longer than 1,048,576 bytes\n")


def test_without_weights_the_ways_out_are_told():
    done = ask("chat", SPEC)
    assert done.code == 3
    assert done.err.startswith(f"--weights: {SPEC} has no weights in the current directory; `archcalc train")


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of Unix")
def test_at_a_terminal_a_refusal_does_not_end_the_talk(weights):
    import pty
    import subprocess

    ours, theirs = pty.openpty()
    program = [sys.executable, "-c", "from archcalc.cli import main; main()"]
    process = subprocess.Popen(
        [*program, "chat", SPEC, "--weights", weights, "--system", "", "--max-tokens", "4"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "dumb"},
    )
    os.close(theirs)

    def until(text):
        seen = b""
        while text not in seen:
            seen += os.read(ours, 4096)
        return seen

    until(b"User: ")
    os.write(ours, b"x" * 150 + b"\n")
    until(b"leaves no room")
    os.write(ours, b"Hi\n")
    until(b"AI Assistant:")
    until(b"User: ")
    os.write(ours, b"\x04")
    seen = until(b"as counted")
    assert process.wait(20) == 0
    assert b"1 turn; " in seen
    os.close(ours)
