"""How the turns of a conversation become one text: a plain one for a base model, or by a checkpoint's own template.

A checkpoint's template is Jinja: in chat_template.jinja, in chat_template.json or under `chat_template` in
tokenizer_config.json, the first of these that there is. It runs as transformers runs it
(huggingface.co/docs/transformers/chat_templating), in Jinja's sandbox and in a process with limits, for it came with
the weights.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

from archcalc.errors import Invalid, Problem, cut
from archcalc.packages import needed
from archcalc_reference.files import LONGEST_REASON, read_object, read_text
from archcalc_reference.text.helper import Ended, Helper
from archcalc_reference.text.special import SETTINGS, read_words
from archcalc_reference.unpacking import is_in_gguf, names_beside

SYSTEM = "This is a conversation between a user and an AI assistant who knows much and is glad to help."
"""The default system prompt of a plain template."""

JINJA, LEGACY = "chat_template.jinja", "chat_template.json"
SECONDS = 2.0
"""A processor's time that a template may take for a conversation."""
MEMORY = 512 * 2**20
"""Bytes of address space of the process that runs it; Python with Jinja takes a tenth."""


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
    """A checkpoint's own template, which is a program: a process that can be ended runs it."""

    stop = None

    def __init__(self, name: str, source: str, words: dict[str, Any]) -> None:
        """`words` are the special tokens that the template may name, such as bos_token."""
        if find_spec("jinja2") is None:
            needed("jinja2", "chat template")
        self.name = name
        self._helper = Helper("rendering", {"source": source, "words": words}, seconds=SECONDS, memory=MEMORY)

    def render(self, messages: list[Message]) -> str:
        try:
            text: str = self._helper.ask([message._asdict() for message in messages])
        except Ended as error:
            why, line = cut(str(error), LONGEST_REASON + 30), error.line
            raise Invalid(Problem(self.name, why, "", line, None if line is None else 1)) from None
        if not text:
            raise Invalid(Problem(self.name, "renders this conversation as an empty text"))
        return text


def read_template(folder: str) -> Template:
    """The chat template of a folder; Plain where it has none.

    Raises Invalid for one that is none, Missing without the package jinja2.
    """
    there = names_beside(folder)
    words = read_words(folder)
    if JINJA in there:
        path = os.path.join(folder, JINJA)
        return Own(path, read_text(path), words)
    for path in (os.path.join(folder, name) for name in (LEGACY, SETTINGS) if name in there):
        found = read_object(path).get("chat_template")
        if isinstance(found, list):  # several, by name
            first = [one for one in found if isinstance(one, dict) and one.get("name") == "default"]
            if not first:
                raise Invalid(Problem(path, "has no template named default", "chat_template"))
            found = first[0].get("template")
        if isinstance(found, str):
            return Own(folder if is_in_gguf(path) else path, found, words)
        if found is not None:
            raise Invalid(
                Problem(path, "must be text or a list of templates", "chat_template", value=type(found).__name__)
            )
    return Plain()


def read_first(folders: Iterable[str]) -> Template:
    """The chat template of the first folder that has one; Plain where none has. Raises as `read_template` does."""
    found: Template = Plain()
    for folder in folders:
        found = read_template(folder)
        if not isinstance(found, Plain):
            break
    return found
