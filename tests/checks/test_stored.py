"""A checkpoint's weights held against what a spec expects, by hand: three tensors of a file and what may be wrong."""

import math

from archcalc.checks.stored import Expected, expected_head, held
from archcalc.huggingface.headers import Header
from archcalc.huggingface.packing import Weight

TABLE, NORM = Expected("table", (10, 4), "vocab_size"), Expected("norm", (4,))


def weight(name, shape, kind="F32", **more):
    numbers = math.prod(shape)
    return Weight(name, shape, kind, numbers, 4 * numbers, Header("f", name, shape, kind, 4 * numbers), **more)


def told(expected, *weights, head=None):
    found = held(expected, head, {one.name: one for one in weights})
    return [(one.what, one.counted, one.measured, one.reason) for one in found.checks if not one.equal], found.warnings


def test_what_is_expected_is_no_buffer_and_must_be_there():
    assert told([TABLE, NORM], weight("table", (10, 4)), weight("norm", (4,))) == ([], ())
    wrong, _ = told([TABLE, NORM], weight("table", (10, 4)))
    assert wrong == [
        ("tensors", 2, 1, "DIFFERS"),
        ("parameters", 44, 40, "DIFFERS"),
        ("norm", [4], None, "MISSING"),
    ]
    wrong, _ = told([TABLE, expected_head("head", (10, 4))], weight("table", (10, 4)))
    assert wrong[-1] == ("head", [10, 4], None, "MISSING; unembedding.tied=true describes a file without it")


def test_a_head_that_is_stored_beside_its_table_has_its_shape():
    head = expected_head("head", (10, 4))
    there = weight("table", (10, 4))
    wrong, (warning,) = told([TABLE], there, weight("head", (10, 4)), head=head)
    assert wrong == []
    assert warning.startswith("head is stored too (160 bytes), and the spec ties it to the token table")
    wrong, _ = told([TABLE], there, weight("head", (12, 4)), head=head)
    assert wrong == [("head", [10, 4], [12, 4], "PADDED by 2 rows; vocab_size=12 counts them")]
    wrong, _ = told([TABLE], there, weight("head", (4, 10)), head=head)
    assert wrong == [("head", [10, 4], [4, 10], "TRANSPOSED")]


def test_buffers_and_what_may_be_absent_are_no_parameters():
    lacked = Expected("gate", (4,), lacked=True)
    wrong, warnings = told([TABLE, Expected("bias", (3,), buffer=True), lacked], weight("table", (10, 4)))
    assert ("bias", [3], None, "MISSING") in wrong
    assert "gate" not in [one[0] for one in wrong]
    assert warnings == ("gate is not stored, in 1 layer: zeros stand for it",)
    wrong, _ = told([NORM], weight("norm", (4,), "I64"), weight("more", (2,)), weight("count", (1,), buffer=True))
    assert wrong[-2:] == [("norm", [4], [4], "WRONG TYPE: I64"), ("more", None, [2], "UNEXPECTED")]
