"""A chat template is a program from a file: whatever it does ends soon, in bounded memory, as text or as one line."""

import os
import re
import signal
import sys
import time

import pytest

pytest.importorskip("jinja2")

from archcalc import Invalid, Missing
from archcalc.packages import install_command
from archcalc_reference.text import template
from archcalc_reference.text.helper import Ended, Helper
from archcalc_reference.text.rendering import LONGEST_RENDERING
from archcalc_reference.text.template import Message, Own, read_template

SAID = [Message("user", "Hi")]
SLOW, LARGE = "takes longer than 0.2 s", f"makes more than {LONGEST_RENDERING:,} characters"
BOUND = "takes "  # too long, or more memory: what comes first depends on the machine
MEMORY = "takes more than 536,870,912 bytes of memory"
HOSTILE = {
    "a loop in a loop": ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", SLOW),
    "a range too long": ("{% for i in range(10**9) %}x{% endfor %}", "fails: Range too big"),
    "a loop that writes": ("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", LARGE),
    "ljust": ("{{ 'x'.ljust(10**9) }}", MEMORY),
    "rjust of a variable": ("{{ messages[0].content.rjust(10**8) }}", LARGE),
    "center": ("{{ messages[0].content | center(10**9) }}", MEMORY),
    "zfill": ("{{ messages[0].content.zfill(10**9) }}", MEMORY),
    "a product": ("{{ messages[0].content * 10**9 }}", MEMORY),
    "a product of constants": ("{{ 'x' * 10**9 }}", MEMORY),
    "a list": ("{{ ([0] * 10**9) | length }}", MEMORY),
    "format": ("{{ '%1000000000d' | format(1) }}", MEMORY),
    "format of a string": ("{{ '{:>1000000000}'.format(1) }}", MEMORY),
    "indent": ("{{ ('x\\n' * 10**5) | indent(10**4) }}", BOUND),
    "doubling": (
        "{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
        BOUND,
    ),
    "replace": ("{{ ('x' * 10**5).replace('x', 'x' * 10**5) }}", MEMORY),
    "join": ("{{ range(99999) | join('x' * 10**6) }}", MEMORY),
    "wordwrap": ("{{ ('x ' * 10**6) | wordwrap(1) }}", SLOW),
    "urlize": ("{{ ('www.x.org ' * 10**6) | urlize }}", SLOW),
    "lipsum": ("{{ lipsum(n=99999) }}", SLOW),
    "a power": ("{{ 10 ** (10 ** 10) }}", SLOW),
    "a power of powers": ("{{ 9 ** (9 ** (messages | length + 8)) }}", SLOW),
    "sort": ("{{ (range(99999) | list * 99) | sort(reverse=true) | length }}", SLOW),
    "a macro of itself": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails: maximum recursion depth exceeded"),
    "two of each other twice": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
        SLOW,
    ),
    "a loop of itself": ("{% for m in [messages] recursive %}{{ loop([m]) }}{% endfor %}", "fails: "),
    "brackets without end": ("{{" + "(" * 20_000, "is not a valid chat template: "),
    "lists in lists": ("{{" + "[" * 90 + "]" * 90 + "}}" + "{% if 1 %}" * 500, ": "),
    "json of itself": ("{% set n = namespace() %}{% set n.a = n %}{{ n | tojson }}", "fails: "),
    "a time without end": ("{{ strftime_now('%c' * 10**7) }}", ""),
    "what is not there": ("{{ messages[7].content.x }}", "fails: "),
    "an include": ("{% include '/etc/passwd' %}", "fails: "),
    "an import": ("{% import 'os' as os %}", "fails: "),
    "the inside of Python": ("{{ ''.__class__.__mro__ }}", "fails: "),
    "the inside of a function": ("{{ strftime_now.__globals__ }}", "renders this conversation as an empty text"),
    "the inside of dict": ("{{ dict.__class__ }}", "renders this conversation as an empty text"),
    "a name of the inside": ("{% set n = namespace(__class__=1) %}x", "fails: chat templates cannot set an attribute that begins with an underscore: '__class__'"),
    "a division": ("{{ 1 / 0 }}", "fails: division by zero"),
    "an end": ("{{ raise_exception('no\\n\\x1b[31m') }}", r"refuses this conversation: no\n\x1b[31m"),
    "half a character": ("{{ '\\ud800' }}", None),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(template, "SECONDS", 0.2)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_one_line_and_soon(name):
    source, line = HOSTILE[name]
    since = time.perf_counter()
    if line is None:  # text that is none is told by the tokenizer
        assert Own("t", source, {}).render(SAID) == "\ud800"
        return
    with pytest.raises(Invalid) as caught:
        Own("t", source, {}).render(SAID)
    message = str(caught.value)
    # On a busy machine time may run out before memory does; either is a bound.
    assert line in message or ("makes more than" in line and "takes longer than" in message)
    assert message.startswith("t:")
    assert "\n" not in message
    assert len(message) < 300
    assert time.perf_counter() - since < 10  # by the clock of a busy machine


def test_one_process_renders_every_turn_and_another_follows_one_that_was_ended():
    own = Own(
        "t",
        "{% if messages[0].content == 'x' %}{{ 9 ** (9 ** (messages | length + 8)) }}{% endif %}{{ messages[0].content }}",
        {},
    )
    assert own.render(SAID) == "Hi"
    first = own._helper._process
    assert own.render([Message("user", "Ho")]) == "Ho"
    assert own._helper._process is first
    with pytest.raises(Invalid, match=SLOW):
        own.render([Message("user", "x")])
    assert first.poll() is not None, "it was ended"
    assert own.render(SAID) == "Hi"
    last = own._helper._process
    del own
    assert last.poll() is not None, "nothing stays"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of Unix")
def test_it_ends_by_itself_where_nobody_waits_for_it():
    """The process that asked may have been killed."""
    import json
    import subprocess

    from archcalc_reference.text import rendering

    setup = json.dumps({"source": "{{ messages ** (messages ** messages) }}", "words": {}})
    program = [sys.executable, "-P", rendering.__file__, str(2**29), "0.2"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process:
        process.stdin.write(f"{setup}\n9\n".encode())
        process.stdin.flush()
        try:
            assert process.wait(30) == -signal.SIGPROF
        finally:
            process.kill()


def test_what_cannot_be_started_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(Invalid, match=r"^t: cannot be run: No such file or directory$"):
        Own("t", "x", {}).render(SAID)
    with pytest.raises(Ended, match="cannot be run"):
        Helper("rendering", {}, seconds=1, memory=2**29).ask([])


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(
        Missing, match="^" + re.escape(f"chat template: needs the package jinja2; {install_command('run')}") + "$"
    ):
        Own("t", "x", {})


def test_a_template_that_is_too_large_is_one_line(tmp_path):
    (tmp_path / "chat_template.jinja").write_text("x" * (2**18 + 1))
    with pytest.raises(Invalid, match=r"chat_template\.jinja: is larger than 262,144 bytes$"):
        read_template(str(tmp_path))
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert read_template(str(tmp_path)).render([Message("user", "x" * LONGEST_RENDERING)])
