"""Inputs that mean harm, made of good ones: by their bytes, tokens, lines and fields, and headers whose lengths lie.

Every choice comes from one `random.Random`, or from what hypothesis and atheris put in its place, so that a seed
repeats an input.
"""

import json
import re
import struct
from functools import lru_cache

import yaml

NUMBERS = (
    *("0", "-0", "-0.0", "1", "-1", "2", "3", "7", "64", "1.0", "1.5", ".5", "5.", "1e3", "1e9", "12e-1", "1e-400"),
    *("1e400", "-1e400", "9e99", "1e39", "1e40", "0x", "0x10", "0o7", "0b1", "1_0", "1__0", "_1", "1,000", "1:30"),
    *("NaN", "nan", ".nan", ".inf", "-.inf", "Infinity", "-Infinity", "+1", "00", "1e", "e1", "2020-01-01"),
    *(str(2**k + more) for k in (31, 32, 53, 63, 64) for more in (-1, 0, 1)),
    *("9" * 39, "9" * 40, "9" * 41, "1" + "0" * 5_000, "1" + "0" * 4_000, "0." + "1" * 50, "1e" + "9" * 50),
)
WORDS = (
    *("true", "false", "null", "~", "yes", "no", "True", "''", '""', "[]", "{}", "[[]]", "[{}]", "{a: 1}", '{"a":1}'),
    *("!!python/object/apply:os.system [id]", "!!str 1", "!!binary AA==", "!<x> 1", "&a 1", "*a", "&a [*a]", "---"),
    *("<<: {a: 1}", '{"<<": {"a": 1}}', "? [a]\n: 1", "...", "%YAML 1.1", "|", ">-", "'", '"', "#", "\t", "@x", "`x"),
    *("- 1", "a: 1", ":", ",", "[", "]", "{", "}", "\\", "\n", "\r", "\r\n", "\n  ", " " * 99, "?", "-", "=", "@"),
)
TEXTS = (
    *("\x1b[2J", "\x9b31m", "\u202e", "\u2066", "\u2028", "\u200b", "\ufeff", "\x00", "\x7f", "\x85", "é", "模", "😀"),
    *('"\\x1b]0;t\\a"', '"\\e[2J"', '"\\ud800"', '"\\u0000"', '"\\u202e"', '"\\n"', '"\\N"', "a" * 300, "'a\n\nb'"),
    *("../../etc/passwd", "/dev/zero", "hf:a/b", "<stdin>", "https://example.invalid", "$(id)", "`id`", "%s", "%n"),
    *("{i}", "{", "{0.__class__}", "{what}", "{{", "layers.0", "kind", "__class__", "__metadata__", "(", "[a", "\\1"),
    *("kind: ", "kind: x", "{kind: 1}", "{kind: []}", "{kind: null}", "{kind: multi_head}", "{kind: plain}"),
)
NESTED = tuple(text * count for text in ("[", "{a: ", '{"a":', "- ", "[{a: ") for count in (70, 1_500))
LONG = ("a" * 70_000, '"' + "é" * 70_000 + '"', "[" + "1," * 60_000 + "1]", "x: 1\n" * 20_000, "\n" * 50_000)
SCALARS = (*NUMBERS, *WORDS, *TEXTS)
BYTES = (
    *(b"\xff", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x85"),
    *(b"\x00", b"\r", b"\x0b", b"\x1b[31m", b"\xc2\x9b", b"\xe2\x80\xae", b"\x7f", b"\xe9", b"\x00" * 8),
)
ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "latin-1", "utf-8-sig", "utf-7", "cp500")
SIZES = (0, 1, 2, 3, 4, 7, 8, 9, 31, 32, 33, 255, 2**16 - 1, 2**16, *(2**k + d for k in (31, 32, 53, 62, 63) for d in (-1, 0, 1)), 2**64 - 1)  # fmt: skip
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z0-9_.+-]+|[^\sA-Za-z0-9_.+-]')


class Raw(str):
    """Text that stands in a file as it is, and not as JSON would have it."""

    __slots__ = ()


class Pairs(list):
    """A mapping that may say a key twice."""


def mutated(rng, form, seed, others):
    """A file of a form (yaml, json, safetensors, gguf, text), damaged in one to five ways; `others` are good ones."""
    if form == "gguf":
        return _gguf(rng, seed, others)
    if form == "safetensors":
        return _safetensors(rng, seed, others)
    return _text(rng, form, seed, others)


def _text(rng, form, seed, others):
    ways = rng.choice((1, 1, 1, 2, 2, 3, 5))
    if form != "text" and rng.random() < 0.7:
        data, ways = _fields(rng, seed, others, ways), rng.choice((0, 0, 0, 0, 0, 1))
    else:
        data = seed
    for _ in range(ways):
        data = rng.choice((_tokens, _tokens, _lines, _bytes))(rng, data, others)
    if rng.random() < 0.02:
        data = data.decode("utf-8", "replace").encode(rng.choice(ENCODINGS), "replace")
    return data


# Fields


@lru_cache(maxsize=1_000)
def _tree(seed):
    """A good file as plain data, its mappings as Pairs."""
    return _opened(yaml.load(seed, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # noqa: S506


def _opened(value):
    if isinstance(value, dict):
        return Pairs([key, _opened(inner)] for key, inner in value.items())
    return [_opened(inner) for inner in value] if isinstance(value, list) else value


def _copied(value):
    if isinstance(value, Pairs):
        return Pairs([key, _copied(inner)] for key, inner in value)
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def flow(value):
    """Plain data as JSON, which is YAML too."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ", ".join(f"{flow(key)}: {flow(inner)}" for key, inner in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)


def _holders(tree):
    """Every mapping and list of some data that is not empty."""
    found, at = [], [tree]
    while at:
        one = at.pop()
        inner = [pair[1] for pair in one] if isinstance(one, Pairs) else one if isinstance(one, list) else ()
        if isinstance(one, list) and one:
            found.append(one)
        at.extend(inner)
    return found


def _fields(rng, seed, others, ways):
    tree = _copied(_tree(seed))
    for _ in range(ways):
        tree = _one_field(rng, tree, others)
    return flow(tree).encode("utf-8", "replace")


def _one_field(rng, tree, others):
    holders = _holders(tree)
    if not holders:
        return Raw(rng.choice(SCALARS))
    holder = rng.choice(holders)
    at, way = rng.randrange(len(holder)), rng.randrange(18)
    pairs = isinstance(holder, Pairs)
    if way == 0:
        del holder[at]
    elif way == 1:
        holder.insert(rng.randrange(len(holder) + 1), _copied(type(holder)([holder[at]]))[0])
    elif way == 2 and pairs:
        holder[at][0] = Raw(rng.choice(SCALARS))
    elif way == 3 and pairs:
        holder[at][0] = rng.choice([*_said(tuple(others))])
    elif way == 4:
        times = rng.choice((1, 1, 1, 9, 9, 200, 3_000) if rng.random() < 0.2 else (1, 2))
        holder.extend(_copied(type(holder)([holder[at]]))[0] for _ in range(times))
    else:
        value = _copied(rng.choice(holders)) if way in (5, 6) else _other_value(rng, way, holder, at, others)
        _put(holder, at, value)
    return tree


def _other_value(rng, way, holder, at, others):
    """What may stand in place of a value: wrapped, of another file, of another kind or size, or of the same field."""
    pairs = isinstance(holder, Pairs)
    key, one = holder[at] if pairs else (None, holder[at])
    if way == 7:
        return [_copied(one)] if rng.random() < 0.5 else Pairs([["a", _copied(one)]])
    if way == 8:
        return _copied(rng.choice(_holders(_tree(rng.choice(others))) or [1]))
    if way == 9:
        return Raw(rng.choice(NESTED + LONG[:3] if rng.random() < 0.1 else SCALARS))
    if way in (10, 11):
        return Raw(rng.choice(NUMBERS)) if way == 10 else rng.choice(SIZES)
    alike = _said(tuple(others)).get(key) if isinstance(key, str) else None
    return _copied(rng.choice(alike)) if alike else rng.choice((1, 2, 3, 4, 8, 16, 64))


def _put(holder, at, value):
    if isinstance(holder, Pairs):
        holder[at][1] = value
    else:
        holder[at] = value


@lru_cache(maxsize=100)
def _said(others):
    """The values that good files have under each key: what is changed to one of these may still be good."""
    found = {}
    for other in others:
        for holder in _holders(_tree(other)):
            for key, value in holder if isinstance(holder, Pairs) else ():
                found.setdefault(key, []).append(value)
    return found


# Tokens, lines and bytes


def _tokens(rng, data, others):
    text = data.decode("utf-8", "surrogateescape")
    found = [match.span() for match in _TOKEN.finditer(text[:20_000])]
    if not found:
        return rng.choice(SCALARS).encode("utf-8", "replace")
    (start, end), way = rng.choice(found), rng.randrange(8)
    if way == 0:
        new = ""
    elif way == 1:
        new = text[start:end] + rng.choice(("", " ", ": ", ", ", "\n")) + text[start:end]
    elif way in (2, 3):
        other = rng.choice(others).decode("utf-8", "replace")
        new = rng.choice([match[0] for match in _TOKEN.finditer(other[:5_000])] or [""])
    elif way == 4 and rng.random() < 0.05:
        new = rng.choice(NESTED + LONG)
    else:
        new = rng.choice(SCALARS)
    return (text[:start] + new + text[end:]).encode("utf-8", "surrogateescape" if _is_escaped(text) else "replace")


def _is_escaped(text):
    """Whether it has bytes that are no UTF-8; of other surrogates none can be written."""
    return any("\udc80" <= c <= "\udcff" for c in text)


def _lines(rng, data, others):
    lines = data.splitlines(keepends=True) or [b""]
    at, way = rng.randrange(len(lines)), rng.randrange(7)
    if way == 0:
        del lines[at]
    elif way == 1:
        lines.insert(rng.randrange(len(lines) + 1), lines[at])
    elif way == 2:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif way == 3:
        lines[at] = rng.choice((b" ", b"  ", b"\t", b"- ", b"# ", b"? ")) + lines[at]
    elif way == 4:
        lines[at] = lines[at].lstrip()
    elif way == 5:
        lines.insert(at, rng.choice(rng.choice(others).splitlines(keepends=True) or [b""]))
    elif len(lines[at]) < 10_000:
        lines[at] = lines[at] * rng.choice((2, 2, 3, 50, 1_000) if rng.random() < 0.2 else (2, 3))
    return b"".join(lines)


def _bytes(rng, data, others):
    at, way = rng.randrange(len(data) + 1), rng.randrange(8)
    end = min(len(data), at + rng.choice((1, 2, 8, 100)))
    if way == 0:
        return data[:at]
    if way == 1:
        return data[at:]
    if way == 2:
        return data[:at] + data[end:]
    if way == 3:
        return data[:end] + data[at:]
    if way == 4:
        return data + rng.choice(others)
    if way == 5:
        other = rng.choice(others)
        return data[:at] + other[rng.randrange(len(other) + 1) :]
    if way == 6:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    return data[:at] + rng.choice(BYTES) + data[rng.choice((at, end)) :]


# Headers


def _safetensors(rng, seed, others):
    length = int.from_bytes(seed[:8], "little")
    header, tail = seed[8 : 8 + length], seed[8 + length :]
    if rng.random() < 0.9:
        header = _text(rng, "json", header, [one[8 : 8 + int.from_bytes(one[:8], "little")] for one in others])
    if rng.random() < 0.2:
        tail = _bytes(rng, tail, others)
    announced = len(header) if rng.random() < 0.85 else rng.choice((*SIZES, len(header) + 1, len(header) - 1))
    whole = (announced % 2**64).to_bytes(8, "little") + header + tail
    return _bytes(rng, whole, others) if rng.random() < 0.1 else whole


def _gguf(rng, seed, others):
    if rng.random() < 0.2:
        seed = _random_gguf(rng)
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        if rng.random() < 0.6:
            at, size = rng.randrange(min(len(data), 300) + 1), rng.choice((4, 8))
            data[at : at + size] = (rng.choice(SIZES) % 256**size).to_bytes(size, "little")
        elif rng.random() < 0.5:
            data = bytearray(_bytes(rng, bytes(data), others))
        elif data:
            data[rng.randrange(min(len(data), 300))] = rng.choice((0, 1, 2, 3, 4, 8, 9, 10, 12, 30, 39, 127, 255))
    return bytes(data)


def _random_gguf(rng):
    """A header whose parts are of the right form, with sizes, kinds and names of any value."""
    from ggufs import info, key, raw, text

    def name():
        return rng.choice(
            (
                "a",
                "b",
                "general.alignment",
                "split.count",
                "blk.0.attn_q.weight",
                "token_embd.weight",
                "",
                "\x1b[2J",
                "a" * 200,
            )
        )

    def value():
        kind = rng.choice((0, 4, 5, 6, 7, 8, 9, 10, 12, 13))
        if kind == 8:
            return kind, text(rng.choice((b"llama", b"\xff", b"x" * 2_000)))
        if kind == 9:
            count = rng.choice((0, 1, 3, 10**9))
            return kind, struct.pack("<IQ", 8, count) + text("t") * min(count, 3)
        return kind, rng.choice(SIZES).to_bytes(8, "little")[: {0: 1, 7: 1, 10: 8, 12: 8}.get(kind, 4)]

    parts = [key(name(), *value()) for _ in range(rng.randrange(4))]
    for _ in range(rng.randrange(4)):
        sizes = [rng.choice((0, 1, 32, 256, *SIZES)) for _ in range(rng.choice((0, 1, 2, 4, 5)))]
        parts.append((info(name(), sizes, rng.choice((0, 1, 2, 8, 12, 30, 39, 99)), rng.choice((0, 32, 64, 2**40))),))
    return raw(*parts, size=rng.choice((0, 32, 64, 128, 4_096)))
