"""The process that renders a chat template: Jinja's sandbox with what transformers gives a template, bounded."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox
import jinja2.utils

from archcalc_reference.text.helper import Answer, Ended, serve

LONGEST_RENDERING = 2**20
"""Characters that a template may make of a conversation."""


class _Generation(jinja2.ext.Extension):
    """The tags {% generation %} and {% endgeneration %}, which mark an answer for those who train on it: no text."""

    tags = {"generation"}  # noqa: RUF012  (as Jinja declares it)

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Dict:
    """`dict` as templates call it, and nothing else of it."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(jinja2.utils.Namespace):
    """`namespace`, in which nothing is named as Python names its insides; transformers has the same rule."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args  # as in Jinja's own, so that an attribute may be called self
        found = dict(*rest, **kwargs)
        for name in found:
            _refuse_insides(name)
        jinja2.utils.Namespace.__init__(self, found)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_insides(name)
        super().__setitem__(name, value)


def _refuse_insides(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        what = "chat templates cannot set an attribute that begins with an underscore"
        raise jinja2.exceptions.SecurityError(f"{what}: {name!r}")


def begin(setup: dict[str, Any]) -> Answer:
    """Compile `source`; the special tokens that it may name are `words`."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _json
    environment.globals.update(
        raise_exception=_refuse,
        strftime_now=lambda form: datetime.now().strftime(form),
        dict=_Dict(),
        namespace=_Namespace,
    )
    try:
        template, words = environment.from_string(setup["source"]), setup["words"]
    except jinja2.TemplateSyntaxError as error:
        raise Ended(f"is not a valid chat template: {error.message}", error.lineno) from None
    except (RecursionError, SyntaxError, ValueError) as error:  # brackets without end, a number without end
        raise Ended(f"is not a valid chat template: {error}") from None

    def answer(messages: list[dict[str, str]]) -> str:
        parts, length = [], 0
        for part in template.generate(
            messages=messages, tools=None, documents=None, add_generation_prompt=True, **words
        ):
            parts.append(part)
            length += len(part)
            if length > LONGEST_RENDERING:
                raise Ended(f"makes more than {LONGEST_RENDERING:,} characters")
        return "".join(parts)

    return answer


def _refuse(why: object) -> NoReturn:
    raise Ended(f"refuses this conversation: {why}")


def _json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002  (as templates call it)
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """In place of Jinja's own filter, which writes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


if __name__ == "__main__":
    serve(begin)
