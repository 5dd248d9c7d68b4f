"""Text as it is drawn: on a terminal the likely tokens of each step as bars, live; plain lines where it is piped."""

from __future__ import annotations

import codecs
import sys
from typing import Any

from archcalc.errors import printable
from archcalc.report.cells import BAR, SIGNS, bar, cells, fitted, wrapped
from archcalc.report.output import on_terminal, stream


class Console:
    """Where the tokens of one generation go.

    One text streams as it comes; several stand below each other at the end.
    """

    def __init__(
        self,
        session: Any,
        prompt: str,
        samples: int,
        shown: int | None,
        stop: str | None,
        title: str,
        *,
        answers: bool = False,
    ) -> None:
        """Of a text that `answers` a label the first blank is left out: SentencePiece puts one before each word."""
        self.session, self.prompt, self.shown, self.stop = session, prompt, shown, stop
        self._answers = answers
        self.texts = [""] * samples
        self.ended = [False] * samples
        self.printed = 0
        decoder = codecs.getincrementaldecoder("utf-8")
        self.decoders = [decoder("replace") for _ in range(samples)]
        self.live = self._live() if shown and on_terminal() else None
        if title:
            self._print(f"{title}\n")
        if samples == 1 and not shown:
            self._print(prompt)

    def take(self, step: Any) -> bool:
        """One step; False where every text has come to its end."""
        for sample, token in enumerate(step.tokens_N):
            if token in self.session.ends:
                self.ended[sample] = True
            if not self.ended[sample]:
                self._take(sample, self.session.token(token).bytes)
        if self.shown:
            likely = self.session.likely(step, 0, self.shown)
            if step.tokens_N[0] not in [one.token.id for one in likely]:
                likely.append(self.session.drawn(step, 0))
            if self.live is not None:
                self.live.update(self._view(likely, step.tokens_N[0], *self.live.console.size), refresh=True)
            else:
                self._print(_lines(step.position, likely, step.tokens_N[0]))
        return not all(self.ended)

    def close(self) -> None:
        """What is left to be printed."""
        if self.live is not None:
            self.live.stop()
        rest = [decoder.decode(b"", final=True) for decoder in self.decoders]
        if len(self.texts) == 1 and not self.shown:
            self._print(f"{self.texts[0][self.printed :]}{rest[0]}\n")
            return
        for i, text in enumerate(self.texts):
            head = f"--- {i + 1} of {len(self.texts)} ---\n" if len(self.texts) > 1 else ""
            self._print(f"{head}{self.prompt}{text}{rest[i]}\n")

    def _take(self, sample: int, data: bytes) -> None:
        """Characters come when they are whole, and when they cannot be the beginning of what ends the text."""
        text = self.texts[sample] + self.decoders[sample].decode(data)
        if self._answers and not self.texts[sample]:
            text = text.removeprefix(" ")
        if self.stop is not None and (at := text.find(self.stop)) >= 0:
            text, self.ended[sample] = text[:at], True
        self.texts[sample] = text
        if len(self.texts) == 1 and not self.shown:
            end = len(text) - (0 if self.ended[sample] else _beginning(text, self.stop))
            self._print(text[self.printed : end])
            self.printed = max(self.printed, end)

    def _print(self, text: str) -> None:
        """On a terminal without what it might obey; whole where it is piped."""
        if on_terminal():
            text = "".join(c if c.isprintable() or c in "\n\t" else printable(c) for c in text)
        stream(text)

    def _live(self) -> Any:
        """What is drawn over; None on a terminal that cannot show bars, where lines are printed."""
        if not _shows(SIGNS):
            return None
        from rich.console import Console as Terminal
        from rich.live import Live

        live = Live(console=Terminal(), auto_refresh=False, transient=True)
        live.start()
        return live

    def _view(self, likely: list[Any], chosen: int, width: int, height: int) -> Any:
        """The end of the text so far, and a row for each likely token: as much of both as the terminal has lines."""
        from rich.text import Text

        most = max(height - 3, 1)
        rows = sorted(likely, key=lambda one: one.token.id != chosen)[:most]  # the chosen one whatever is cut
        rows = [one for one in likely if one in rows]
        text = "".join(c if c.isprintable() or c == "\n" else printable(c) for c in self._so_far())
        above = wrapped(text, width - 1)[-max(height - len(rows) - 2, 1) :]
        longest = max(sum(map(cells, printable(one.token.literal))) for one in rows)
        names = max(min(longest, width - len(">  100.00%  ") - BAR), 8)
        view = Text("\n".join(above) + "\n\n", no_wrap=True, overflow="crop")
        for one in rows:
            mark, style = (">", "bold") if one.token.id == chosen else (" ", "")
            name = fitted(printable(one.token.literal), names)
            view.append(f"{mark} {name} {100 * one.probability:6.2f}% {bar(one.probability)}\n", style=style)
        return view

    def _so_far(self) -> str:
        return (self.prompt + self.texts[0]).expandtabs(4)


def _shows(signs: str) -> bool:
    """Whether the encoding of standard output has them all."""
    try:
        return bool(signs.encode(sys.stdout.encoding or "utf-8"))
    except (LookupError, UnicodeEncodeError):
        return False


def _beginning(text: str, stop: str | None) -> int:
    """How many characters at the end of a text may be the beginning of its stop."""
    longest = min(len(text), len(stop or "") - 1)
    return next((n for n in range(longest, 0, -1) if (stop or "").startswith(text[-n:])), 0)


def _lines(position: int, likely: list[Any], chosen: int) -> str:
    """A step as plain lines."""
    rows = [
        f"{'>' if one.token.id == chosen else ' '} {100 * one.probability:6.2f}%  {bar(one.probability):30}  "
        f"{printable(one.token.literal)}"
        for one in likely
    ]
    return "\n".join([f"position {position}", *(row.rstrip() for row in rows)]) + "\n"
