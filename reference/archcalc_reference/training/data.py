"""Training data: texts or token files, as sequences in an order that a seed decides.

A text is cut by the tokenizer of the weights that learn on; where there is none, its bytes are its tokens, 256 of
them. Files of tokens, and texts whose bytes are the tokens, are mapped and never read whole.
"""

from __future__ import annotations

import array
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import torch
from torch import Tensor

import archcalc
from archcalc.errors import Invalid, Problem, shown
from archcalc.files.regular import open_file, unreadable
from archcalc.spec.settings import Said, TokensAre
from archcalc_reference.text.tokenizer import Tokenizer
from archcalc_reference.training.kinds import WIDTHS, Array, map_tokens, of_tokens, open_text

BYTES = 256  # tokens of a text
HELD_OUT = 10  # the last tenth
_CHUNK = 2**22  # tokens looked at together
_PIECE, _LONGEST_PIECE = 2**18, 2**20  # characters that a tokenizer cuts together
LARGEST_CUT = 4 * 2**30
"""Bytes of a text that a tokenizer cuts: its tokens are held in memory, 2 or 4 bytes each."""
LARGEST_WHOLE = 8 * 2**20
"""Bytes of a text whose words hang together, so that it is cut as a whole: it takes some hundred times its size."""
_PLACE = re.compile(r"(?<=[^\W_])(?=[\r\n])|(?<=\S\n)(?=[^\s/])")  # before the end of a line, or after it
_STRETCHES, _STRETCH = 1024, 4096  # of a large file, what its fingerprint looks at


class Stream(NamedTuple):
    """Tokens one after the other, in one array or in several."""

    arrays: tuple[Array, ...]

    def __len__(self) -> int:
        return sum(tokens.size for tokens in self.arrays)

    def take(self, start: int, stop: int) -> Array:
        """The tokens from `start` up to `stop`, across the ends of files."""
        parts, first = [], 0
        for tokens in self.arrays:
            part = tokens[max(start - first, 0) : max(stop - first, 0)]
            if part.size:
                parts.append(part.astype(np.int64))
            first += tokens.size
        return np.concatenate(parts)


class Data:
    """A stream whose last tenth is held out; the rest is cut into sequences of S tokens and the one that follows.

    In each epoch every sequence comes once, in an order and from a first token that the seed and the epoch decide: so
    the number of sequences taken is the whole place in the data. Each begins with the tokens `before`, if any, as a
    prompt will: the model has seen them where it will find them.
    """

    def __init__(
        self, stream: Stream, sequence: int, seed: int, kind: TokensAre, before: tuple[int, ...] = ()
    ) -> None:
        self.stream, self.sequence, self.seed, self.kind = stream, sequence, seed, kind
        self.before = before
        if sequence < len(before):
            what = f"must be at least the {len(before)} tokens that the tokenizer puts before a text"
            raise Invalid(Problem("--seq", what, value=str(sequence)))
        self.learned = len(stream) - len(stream) // HELD_OUT
        self.per_epoch = (self.learned - sequence) // sequence
        self._epoch = lru_cache(maxsize=2)(self._drawn)
        if (short := self._missing()) > 0:
            what = f"{len(stream):,} {kind} are too few for sequences of {sequence:,} with a tenth held out"
            fix = f"give at least {short:,} more, or a shorter --seq"
            raise Invalid(Problem("--data", what, suggestion=fix))

    def _missing(self) -> int:
        """How many tokens there are too few: two sequences to learn, and one that is held out with what follows it."""
        return max(HELD_OUT * (self.sequence + 1), 3 * self.sequence) - len(self.stream)

    def _drawn(self, epoch: int) -> tuple[int, Array]:
        draw = np.random.default_rng([self.seed, epoch])
        return int(draw.integers(self.sequence)), draw.permutation(self.per_epoch)

    def batch(self, taken: int, sequences: int) -> tuple[Tensor, Tensor]:
        """The sequences after the first `taken`, and for each token the one that follows it."""
        rows = []
        for n in range(taken, taken + sequences):
            offset, order = self._epoch(n // self.per_epoch)
            rows.append(offset + int(order[n % self.per_epoch]) * self.sequence)
        return self._rows(rows)

    def held_out(self, sequences: int, most: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of what was held out, one after the other; evenly spaced ones where there are more than `most`."""
        count = (len(self.stream) - self.learned - 1) // self.sequence
        kept = [count * i // min(count, most) for i in range(min(count, most))]
        starts = [self.learned + i * self.sequence for i in kept]
        for i in range(0, len(starts), sequences):
            yield self._rows(starts[i : i + sequences])

    def _rows(self, starts: list[int]) -> tuple[Tensor, Tensor]:
        before = np.array(self.before, np.int64)
        own = self.sequence + 1 - len(before)
        found = [np.concatenate([before, self.stream.take(start, start + own)]) for start in starts]
        rows = torch.from_numpy(np.stack(found))
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()

    def fingerprint(self) -> str:
        """A hash of the tokens; of evenly spaced stretches where there are many."""
        total = len(self.stream)
        found = hashlib.sha256(" ".join(map(str, (total, *self.before))).encode())
        stretches = _STRETCHES if total > _STRETCHES * _STRETCH else -(-total // _STRETCH)
        for i in range(stretches):
            start = total * i // stretches if stretches == _STRETCHES else i * _STRETCH
            found.update(self.stream.take(start, min(start + _STRETCH, total)).tobytes())
        return found.hexdigest()


def own_words() -> bytes:
    """The text in this repository: archcalc's own Python sources and the reference's, in the order of their names."""
    folders = (Path(archcalc.__file__).parent, Path(__file__).parents[1])
    return b"".join(path.read_bytes() for folder in folders for path in sorted(folder.rglob("*.py")))


def any_of_tokens(files: Sequence[str], said: Said | None = None) -> bool:
    """Whether there are files of tokens among these, and not texts alone."""
    return any(of_tokens(file, said) for file in files)


def begin_of(files: Sequence[str], tokenizer: Tokenizer | None, said: Said | None = None) -> tuple[int, ...]:
    """What the tokenizer puts before a text; nothing where there is none, or the files hold tokens already."""
    return () if tokenizer is None or any_of_tokens(files, said) else tokenizer.around.before


def read_stream(
    files: Sequence[str], vocab_size: int, tokenizer: Tokenizer | None = None, said: Said | None = None
) -> tuple[Stream, TokensAre]:
    """The files one after the other; our own words where there are none. Texts are cut by the tokenizer, if any.

    `said` is what all of them hold, where that was said. Raises Missing for a file that is not there, Invalid for one
    that is no text and no tokens, cannot be read, or has tokens that the vocabulary does not have.
    """
    if not any_of_tokens(files, said):
        if tokenizer is not None:
            if said == "bytes":
                fix = "omit it, or use --tokenizer bytes"
                raise Invalid(Problem("--data-as", f"{tokenizer.name} reads text, not bytes", suggestion=fix))
            arrays = tuple(_cut(file, tokenizer) for file in files) or (_cut(None, tokenizer),)
            return Stream(arrays), "tokens"
        if vocab_size < BYTES:
            fix = f"give token files ({', '.join(WIDTHS)})"
            raise Invalid(
                Problem(
                    "--data",
                    f"a text without a tokenizer needs {BYTES} tokens; the vocabulary has {vocab_size:,}",
                    suggestion=fix,
                )
            )
        texts = [open_text(file, tokenizer=False, any_bytes=said == "bytes") for file in files]
        texts = texts or [np.frombuffer(own_words(), np.uint8)]
        return Stream(tuple(texts)), "bytes"
    if not all(of_tokens(file, said) for file in files):
        raise Invalid(Problem("--data", "must be either all texts or all token files", value=shown(list(files))))
    arrays = tuple(map_tokens(file, said) for file in files)
    for file, tokens in zip(files, arrays, strict=True):
        for start in range(0, tokens.size, _CHUNK):
            chunk = tokens[start : start + _CHUNK]
            if (largest := int(chunk.max())) >= vocab_size:
                place = f"token {start + int(chunk.argmax()):,}"
                raise Invalid(Problem(file, f"is outside the vocabulary of {vocab_size:,}", place, value=str(largest)))
            if (least := int(chunk.min())) < 0:
                place = f"token {start + int(chunk.argmin()):,}"
                raise Invalid(Problem(file, "is negative", place, value=str(least)))
    return Stream(arrays), "tokens"


def _cut(file: str | None, tokenizer: Tokenizer) -> Array:
    """The tokens of a text, or of our own words; in memory are these, 2 or 4 bytes each, and a piece of the text."""
    found = array.array("H" if tokenizer.vocab_size <= 2**16 else "I")
    if file is not None:
        size, most = open_text(file, tokenizer=True, any_bytes=False).size, LARGEST_CUT
        if not tokenizer.parts_words:
            most = LARGEST_WHOLE
        if size > most:
            fix = f"tokenize it first ({', '.join(WIDTHS)})"
            raise Invalid(Problem(file, f"is larger than {most:,} bytes, the most that is tokenized", suggestion=fix))
    with io.TextIOWrapper(io.BytesIO(own_words()) if file is None else open_file(file), "utf-8", newline="") as text:
        try:
            for piece in pieces(text) if tokenizer.parts_words else [text.read(LARGEST_WHOLE)]:
                found.extend(tokenizer.encode(piece))
        except OSError as error:
            raise unreadable(str(file), error) from None
    if not found:
        raise Invalid(Problem(str(file), "has no tokens"))
    return np.frombuffer(found, f"u{found.itemsize}")


def pieces(text: TextIO, size: int = _PIECE, longest: int = _LONGEST_PIECE) -> Iterator[str]:
    """A text in pieces of about so many characters that give the tokens of the whole text, cut at the ends of lines.

    Not at each: the patterns by which GPT-2 and those after it part words take blanks together up to the last one,
    which goes with the next word, and some take a line's end with the point before it.
    """
    held = ""
    while more := text.read(size):
        held += more
        end = max((place.start() for place in _PLACE.finditer(held)), default=0)
        if end:
            yield held[:end]
            held = held[end:]
        elif len(held) >= longest:  # no text that has lines
            yield held
            held = ""
    if held:
        yield held
