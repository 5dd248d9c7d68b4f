"""The process that cuts texts by a pattern that is not known to end soon."""

from __future__ import annotations

from typing import Any

import tokenizers

from archcalc_reference.text.helper import Answer, serve


def begin(setup: dict[str, Any]) -> Answer:
    """Load a tokenizer from the JSON text of its file."""
    fast = tokenizers.Tokenizer.from_str(setup["tokenizer"])

    def answer(text: str) -> list[int]:
        return fast.encode(text, add_special_tokens=False).ids

    return answer


if __name__ == "__main__":
    serve(begin)
