"""How the turns of a talk become one text: as a plain base model can go on with, or by a checkpoint's own template.

A checkpoint's template is Jinja, in chat_template.jinja or under `chat_template` in tokenizer_config.json. It runs as
transformers runs it (huggingface.co/docs/transformers/chat_templating), in Jinja's sandbox: it came with the weights.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from importlib import import_module
from typing import Any, NamedTuple, NoReturn, Protocol

from archcalc.errors import Invalid, Problem, cut
from archcalc_reference.files import LONGEST_REASON, extra, names_in, read_object, read_text
from archcalc_reference.text import SETTINGS, special

SYSTEM = "This is a conversation between a user and an AI assistant who knows much and is glad to help."
"""What a plain model is told where nothing else is said."""

JINJA = "chat_template.jinja"


class Message(NamedTuple):
    """Who said what: `system`, `user` or `assistant`."""

    role: str
    content: str


class Template(Protocol):
    """What makes one text of many messages, at whose end the assistant is to speak."""

    @property
    def name(self) -> str:
        """Where it comes from: a file, or `plain`."""

    @property
    def stop(self) -> str | None:
        """What ends an answer, where that is a text."""

    def render(self, messages: list[Message]) -> str:
        """The text before the answer; Invalid where the template refuses the messages."""


class Plain:
    """A play of two parts, which whatever learned from books and the web can go on with."""

    name, stop = "plain", "\nUser:"

    def render(self, messages: list[Message]) -> str:
        parts = {"system": "{}", "user": "User: {}", "assistant": "AI Assistant: {}"}
        said = [parts[message.role].format(message.content) for message in messages]
        return "\n\n".join([*said, "AI Assistant:"])  # and no space, which is the first word's own


class Own:
    """A checkpoint's own template."""

    stop = None

    def __init__(self, name: str, source: str, words: dict[str, Any]) -> None:
        """`words` are the special tokens that the template may name, such as bos_token."""
        jinja = _package()
        self.name, self._words = name, words
        environment = jinja.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _generation(jinja)]
        )
        environment.filters["tojson"] = _json
        environment.globals.update(
            raise_exception=self._refuse, strftime_now=lambda form: datetime.now().strftime(form)
        )
        try:
            self._template = environment.from_string(source)
        except jinja.TemplateSyntaxError as error:
            reason = cut(str(error.message), LONGEST_REASON)
            raise Invalid(Problem(name, f"is no chat template: {reason}", "", error.lineno, 1)) from None
        except (RecursionError, ValueError) as error:  # brackets without end, a number without end
            raise Invalid(Problem(name, f"is no chat template: {cut(str(error), LONGEST_REASON)}")) from None

    def render(self, messages: list[Message]) -> str:
        told = [message._asdict() for message in messages]
        try:
            text: str = self._template.render(
                messages=told, tools=None, documents=None, add_generation_prompt=True, **self._words
            )
        except Invalid:
            raise
        except Exception as error:  # noqa: BLE001  (a template is a program, and may do anything wrong)
            raise Invalid(Problem(self.name, f"fails: {cut(str(error), LONGEST_REASON)}")) from None
        if not text:
            raise Invalid(Problem(self.name, "makes no text of this talk"))
        return text

    def _refuse(self, why: object) -> NoReturn:
        raise Invalid(Problem(self.name, f"refuses this talk: {cut(str(why), LONGEST_REASON)}"))


def read_template(folder: str) -> Template:
    """The chat template of a folder; Plain where it has none.

    Raises Invalid for one that is none, Missing without the package jinja2.
    """
    there = names_in(folder)
    settings = read_object(os.path.join(folder, SETTINGS)) if SETTINGS in there else {}
    words = {name: special(value) for name, value in settings.items() if name.endswith("_token") and special(value)}
    if JINJA in there:
        path = os.path.join(folder, JINJA)
        return Own(path, read_text(path), words)
    found = settings.get("chat_template")
    path = os.path.join(folder, SETTINGS)
    if isinstance(found, list):  # several, by name
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        if "default" not in named:
            raise Invalid(Problem(path, "has no template with the name default", "chat_template"))
        found = named["default"]
    if found is None:
        return Plain()
    if not isinstance(found, str):
        raise Invalid(Problem(path, "is no chat template", "chat_template", value=type(found).__name__))
    return Own(path, found, words)


def _json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002  (as templates call it)
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """In place of Jinja's own filter, which writes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _generation(jinja: Any) -> type[Any]:
    """The tags {% generation %} and {% endgeneration %}, which mark an answer for those who train on it: no text."""

    class Generation(jinja.ext.Extension):
        tags = frozenset({"generation"})

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return Generation


def _package() -> Any:
    jinja = extra("jinja2", "chat template")
    for part in ("sandbox", "ext"):  # which it does not load by itself
        import_module(f"jinja2.{part}")
    return jinja
