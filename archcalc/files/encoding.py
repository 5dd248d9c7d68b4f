"""Text of a file: UTF-8, and by their first bytes the encodings that editors may save in its place."""

from __future__ import annotations

from archcalc.errors import Invalid, Problem, shown

_MARKS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_LOOKED_AT = 1024


def other_encoding(data: bytes) -> str | None:
    """The codec of a text that is in UTF-16 or UTF-32: by its mark, or by the zeros of its first letters."""
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return codec
    begin = data[:_LOOKED_AT]
    begin = begin[: len(begin) // 2 * 2]
    even, odd = begin[::2].count(0), begin[1::2].count(0)
    most = 3 * len(begin) // 8  # three of four letters
    if begin and not even and odd > most:
        return "utf-16-le"
    return "utf-16-be" if begin and not odd and even > most else None


def utf8(data: bytes, file: str) -> str:
    """The text of a file, without a mark of UTF-8. Raises Invalid for any other encoding, and for what is no text."""
    if codec := other_encoding(data):
        what = f"is {codec[:6].upper()}, not UTF-8"
        raise Invalid(Problem(file, what, suggestion="save it as UTF-8"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\0" in data:
            raise Invalid(Problem(file, "is a binary file")) from None
        line, column = data.count(b"\n", 0, error.start) + 1, error.start - data.rfind(b"\n", 0, error.start)
        byte = shown(data[error.start : error.start + 1])
        raise Invalid(Problem(file, "is not UTF-8", "", line, column, byte)) from None
    if "\0" in text:
        raise Invalid(Problem(file, "is a binary file"))
    return text
