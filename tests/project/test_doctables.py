"""The tables of our documents are what the code has: fields of specs, families of configs."""

import re

import doctables
import pytest
from docblocks import README, ROOT
from test_imports import OURS, REFERENCE

from archcalc.huggingface.families import _SAME, MODULES
from archcalc.huggingface.families.absent import FEATURES
from archcalc.huggingface.families.wrappers import WRAPPERS

TABLES = [(document, name) for document in README for name in doctables.found(document)]
ASKS_TRANSFORMERS = ("coverage", "not yet")


@pytest.fixture
def transformers():
    module = pytest.importorskip("transformers")
    if not module.__version__.startswith(f"{doctables.VERSION}."):
        pytest.skip(f"the types are those of transformers {doctables.VERSION}")


@pytest.mark.parametrize(("document", "name"), TABLES)
def test_a_table_is_what_the_code_has(document, name, request):
    if name in ASKS_TRANSFORMERS:
        request.getfixturevalue("transformers")
    fresh = doctables.tables()[name]()
    assert doctables.found(document)[name] == fresh, "run: python tests/docblocks.py"


def test_every_class_of_a_spec_and_every_list_of_types_has_one_table():
    assert sorted(name for _, name in TABLES) == sorted(doctables.tables())


def test_marks_are_in_pairs():
    for document in README:
        text = (ROOT / document).read_text()
        assert text.count("<!-- made: ") == text.count("<!-- end -->") == len(doctables.found(document))


def test_a_type_is_in_one_list():
    lists = [set(MODULES), set(_SAME), set(WRAPPERS), set(FEATURES)]
    assert sum(map(len, lists)) == len(set().union(*lists))


@pytest.mark.usefixtures("transformers")
def test_every_type_that_transformers_builds_is_read_or_refused_by_name():
    for model_type in doctables.causal_types():
        assert doctables.is_counted(model_type) != (model_type in FEATURES), model_type


def test_what_a_field_changes_is_found_by_counting():
    """Arithmetic: biases are parameters alone, heads of half as many keys and values shorten the cache."""
    rows = {
        line.split(" | ")[0][2:]: line.split(" | ")
        for line in doctables.found("docs/specs.md")["fields of MultiHead"].splitlines()
    }
    assert rows["`bias`"][3] == "parameters"
    assert rows["`n_kv_heads`"][3] == "parameters, FLOPs, activations, cache"
    assert rows["`window`"][3] == "FLOPs, cache"
    assert rows["`scale`"][3] == "-"


def test_the_rooms_are_those_by_which_imports_are_checked():
    rows = re.findall(r"^\| (`\w+`.*?) \| [^|]+ \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    rooms = [room for row in rows for room in re.findall(r"`(\w+)`", row)]
    assert rooms == [*OURS.rooms, *REFERENCE.rooms]
