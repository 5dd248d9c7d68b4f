"""How far a training or another long work is: a bar on a terminal, lines where standard error is piped."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from archcalc.errors import printable
from archcalc.report.output import tell
from archcalc.units import grouped, share, short

Item = TypeVar("Item")

_LINES = 20  # of a whole training, where it is told in lines
_REMEMBERED = 20  # steps that a rate is the mean of
_ROOM = len("^C^C") + 1  # columns beside the bar
_SHORTEST = 4  # columns of the bar


class Pace:
    """Tokens and FLOPs a second: the mean of the last steps, without what is between them."""

    def __init__(self, tokens: int, flops: int, model_flops: int, peak: int | None) -> None:
        self.tokens, self.flops, self.model_flops, self.peak = tokens, flops, model_flops, peak
        self.last: deque[float] = deque(maxlen=_REMEMBERED)
        self.seconds = 0.0
        self.steps = 0

    def add(self, seconds: float) -> None:
        """One more step took so long."""
        self.last.append(seconds)
        self.seconds += seconds
        self.steps += 1

    def words(self, *, whole: bool = False) -> str:
        """The rates of the last steps, or of the whole."""
        steps, seconds = (self.steps, self.seconds) if whole else (len(self.last), sum(self.last))
        if not seconds:
            return "no steps"
        each = steps / seconds
        if self.peak is not None:
            rate = f"MFU {share(self.model_flops * each, self.peak)}"
        else:
            rate = f"{short(round(self.flops * each))} FLOP/s"
        return f"{grouped(round(self.tokens * each))} tokens/s, {rate}"


class Progress:
    """Tells each step in `with`. What is told beside it stands above the bar."""

    def __init__(self, steps: int, done: int, pace: Pace) -> None:
        self.steps, self.pace, self.bar, self.task = steps, pace, _bar(), None
        self.each = max(-(-(steps - done) // _LINES), 1)
        if self.bar is not None:
            self.task = self.bar.add_task("training", total=steps, completed=done, said="")

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def step(self, done: int, loss: float) -> None:
        """`done` steps are done, and the last one heard this loss."""
        if self.bar is not None:
            self.bar.update(self.task, completed=done, said=self._said(loss))
        elif done % self.each == 0 or done == self.steps:
            tell(f"step {grouped(done)} of {grouped(self.steps)}: loss {loss:.4f}, {self.pace.words()}")

    def _said(self, loss: float) -> str:
        """The loss, and the rates where the line has room for them: rich would cut the number of steps as well."""
        loss_, rates = f"loss {loss:.3f}", self.pace.words()
        others = len(f"{self.steps}/{self.steps} ") + _SHORTEST + len(" 123:45:56 ") + _ROOM
        return f"{loss_}, {rates}" if others + len(f"{loss_}, {rates}") <= self.bar.console.width else loss_


def tell_sample(done: int, held_out: float, text: str) -> None:
    """The held-out loss, and what the model writes by now."""
    tell(f"step {grouped(done)}: held-out loss {held_out:.4f}; sample:")
    for line in text.split("\n"):
        tell(f"  | {printable(line)}")


def counted(found: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """The same items one by one, with a bar on a terminal where there are many."""
    bar = _bar() if total >= _MANY else None
    if bar is None:
        yield from found
        return
    with bar:
        task = bar.add_task(what, total=total, said=what)
        for item in found:
            yield item
            bar.update(task, advance=1)


_MANY = 200  # items that may take a second


def _bar() -> Any:
    """Rich's bar; None where standard error is no terminal, or rich is not there."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    try:
        from rich import progress
        from rich.console import Console
        from rich.constrain import Constrain
        from rich.table import Column
    except ModuleNotFoundError:
        return None
    console = Console(stderr=True)
    if not console.is_interactive:  # a dumb terminal, on which a bar would stand still
        return None

    class Bar(progress.Progress):
        """One that leaves room on its line for the ^C that a terminal writes there: else it would begin another."""

        def get_renderable(self) -> Any:
            return Constrain(super().get_renderable(), max(console.width - _ROOM, 1))

    def whole() -> Any:
        return Column(no_wrap=True)

    columns = (
        progress.MofNCompleteColumn(table_column=whole()),
        progress.BarColumn(None),  # which alone becomes shorter
        progress.TimeRemainingColumn(table_column=whole()),
        progress.TextColumn("{task.fields[said]}"),
    )
    return Bar(*columns, console=console)
