"""Labels mean one thing, and what cannot be is refused."""

import numpy as np
import pytest

from archcalc.blocks import Embedding, Mixer, Unembedding, registered
from archcalc.blocks.norm import Norm
from archcalc.errors import TapeError
from archcalc.tape.legend import (
    BRIDGE,
    CATEGORIES,
    COMPOSITES,
    LABELS,
    declare,
    environment,
    labels,
    largest,
    legend,
    parse,
    stem,
    volume,
)


def test_a_label_registered_twice_is_an_error():
    with pytest.raises(TapeError, match=r"^label 'A' is registered twice: 'one' and 'two'$"):
        legend(("A", "one"), ("A", "two"))
    assert legend(("A", "one"), ("B", "two")) == {"A": "one", "B": "two"}


def test_the_legend_has_the_labels_of_gpt():
    assert list(LABELS)[:9] == ["B", "N", "S", "T", "Q", "P", "D", "V", "unit"]  # of the frame; blocks declare theirs
    assert {"G", "R", "K", "W", "F"} <= set(LABELS)
    assert all(LABELS.values())
    assert all(set(whole.split()) <= set(LABELS) and letter not in LABELS for letter, whole in COMPOSITES.items())


def test_a_block_declares_its_labels_and_gives_none_another_meaning():
    blocks = [one for slot in (Embedding, Mixer, Norm, Unembedding) for one in registered(slot).values()]
    assert {label for one in blocks for label in one.labels} <= set(LABELS)
    before = dict(LABELS)
    declare({"F": LABELS["F"]})  # a gated MLP's and a plain one's are one label
    with pytest.raises(
        TapeError, match=r"^label 'F' is registered twice: 'hidden features of the MLP \(d_ff\)' and 'x'$"
    ):
        declare({"F": "x"})
    assert before == LABELS


def test_a_mark_tells_the_labels_of_two_blocks_apart():
    assert (stem("F"), stem("F'"), stem("window''")) == ("F", "F", "window")
    assert parse("(G' R) D") == (("G'", "R"), ("D",))
    with pytest.raises(TapeError, match=r"^\"lost'\": \"lost'\" is not in the legend$"):
        parse("lost'")


def test_the_film_s_eight_categories_in_its_order():
    film = "embedding key query value output up_projection down_projection unembedding"
    assert " ".join(CATEGORIES) == film
    assert not set(CATEGORIES) & set(BRIDGE)


def test_axes_are_labels_or_groups_of_labels():
    assert parse("(G R K) D") == (("G", "R", "K"), ("D",))
    assert parse("D (G W)") == (("D",), ("G", "W"))
    assert parse("") == ()
    assert labels("B N D") == ("B", "N", "D")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("B lost", "'B lost': 'lost' is not in the legend"),
        ("(G (R)", "'(G (R)': a group inside a group"),
        ("(G R", "'(G R': a group never ends"),
        ("G) R", "'G) R': a group ends that is empty or never began"),
        ("() D", "'() D': a group ends that is empty or never began"),
        ("D (G D)", "'D (G D)': a label stands twice"),
    ],
)
def test_what_is_no_list_of_axes_is_refused(text, message):
    with pytest.raises(TapeError) as error:
        parse(text)
    assert str(error.value) == message


def test_a_tensor_has_one_label_per_axis():
    with pytest.raises(TapeError) as error:
        labels("(G R) D")
    assert str(error.value) == "'(G R) D': a tensor's axes have one label each"


def test_volume_is_exact_for_ints_and_float_for_arrays():
    assert volume((), {}) == 1
    assert volume(("B", "D"), {"B": 2**70, "D": 3}) == 3 * 2**70
    env = environment({"B": np.array([1, 2**40]), "D": 2**40}, {"D": 2**40})
    assert env["D"] == 2**40
    assert env["B"].dtype == np.float64
    assert volume(("B", "D"), env).tolist() == [2.0**40, 2.0**80]


def test_a_label_has_one_size():
    assert environment({"D": 7}, {"D": 7}) == {"D": 7}
    for other in (8, np.array([7, 8])):
        with pytest.raises(TapeError, match=r"^label 'D' has two sizes in one tape"):
            environment({"D": 7}, {"D": other})


def test_the_largest_is_element_by_element():
    assert largest([]) == 0
    assert largest([3, 5, 4]) == 5
    assert largest([np.array([3.0, 9.0]), 5, np.array([4.0, 10.0])]).tolist() == [5.0, 10.0]
