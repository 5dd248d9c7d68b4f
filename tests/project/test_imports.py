"""Who may import whom: rooms from the ground up, checked with ast."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
from parsed import tree

import archcalc
import archcalc_reference


class House(NamedTuple):
    """A package: its folder, its name, and its rooms from the ground up; `|` joins modules that share a room."""

    root: Path
    name: str
    plan: str

    @property
    def rooms(self):
        lines = [line for line in self.plan.splitlines() if line]
        return {room.strip(): floor for floor, line in enumerate(lines) for room in line.split("|")}

    def modules(self):
        """Dotted names, without the package's, and paths; the package's own __init__ is no module of a room."""
        for path in sorted(self.root.rglob("*.py")):
            name = ".".join(path.relative_to(self.root).with_suffix("").parts).removesuffix(".__init__")
            if name != "__init__":
                yield name, path

    def imports(self, path):
        """What a file imports of this package, however it is written; "" is the package itself."""
        known = names_below(self.root)
        for name in imported(path, self.root):
            head, _, inside = name.partition(".")
            if head == self.name:
                while inside not in known and inside:  # a name in a module
                    inside = inside.rpartition(".")[0]
                yield inside


@cache
def names_below(root):
    """The names of a house's modules, looked up once."""
    return {name for name, _ in House(root, root.name, "").modules()}


# A room imports itself and rooms before it in the list.
OURS = House(
    Path(archcalc.__file__).parent,
    "archcalc",
    """
errors | units | arguments | packages | escaping | docstrings
files
tape
blocks
huggingface
spec
strategies
plan
counts
hardware
checks
testing
shapes
proof
words
report
commands
cli
__main__
""",
)
REFERENCE = House(
    Path(archcalc_reference.__file__).parent,
    "archcalc_reference",
    """
unpacking
files
model
text
weights
training
parallel
train
""",
)
HOUSES = [OURS, REFERENCE]
EVERY = [
    pytest.param(house, name, path, id=f"{house.name}.{name}") for house in HOUSES for name, path in house.modules()
]

# Imports that the plan forbids and that are still there. Only ever take lines out.
EXCEPTIONS: set[tuple[str, str]] = set()  # imports that break the order, each with its reason

# What runs PyTorch, or asks the reference's readers of files; all else knows nothing of it.
KNOW_THE_REFERENCE = {"proof", "words", "commands"}

# What stands around the reference's model reads and writes files, so it knows specs and how to tell what is wrong,
# never a count.
AROUND = {
    "archcalc",
    "archcalc.blocks.attention",
    "archcalc.blocks.mlp",
    "archcalc.blocks.norm",
    "archcalc.errors",
    "archcalc.files.regular",
    "archcalc.files.writing",
    "archcalc.huggingface.exporting",
    "archcalc.huggingface.families",
    "archcalc.huggingface.families.wrappers",
    "archcalc.huggingface.gguf",
    "archcalc.huggingface.headers",
    "archcalc.huggingface.importing",
    "archcalc.huggingface.architectures",
    "archcalc.huggingface.metadata",
    "archcalc.huggingface.modules",
    "archcalc.huggingface.parts",
    "archcalc.huggingface.shards",
    "archcalc.huggingface.stored",
    "archcalc.packages",
    "archcalc.plan.description",
    "archcalc.plan.reading",
    "archcalc.spec.catalogue",
    "archcalc.spec.checkpoints",
    "archcalc.spec.configs",
    "archcalc.spec.dumping",
    "archcalc.spec.layers",
    "archcalc.spec.model",
    "archcalc.spec.scalars",
    "archcalc.spec.settings",
    "archcalc.spec.shared",
    "archcalc.spec.source",
    "archcalc.spec.validation",
    "archcalc.units",
}


def imported(path, root, *, typing=True):
    """Every name that a file imports, dotted and whole; `typing` takes those that only a type checker sees, too."""
    return imported_by(tree(path), (root.name, *path.relative_to(root).parent.parts), typing)


@cache
def imported_by(module, here, typing):
    return list(imports_in(module, here, typing))


def only_checked(node):
    """Whether it is a block that only a type checker reads."""
    return isinstance(node, ast.If) and any(getattr(n, "id", "") == "TYPE_CHECKING" for n in ast.walk(node.test))


def imports_in(module, here, typing):
    checked = [] if typing else filter(only_checked, ast.walk(module))
    hidden = {inner for block in checked for inner in ast.walk(block)}
    for node in ast.walk(module):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = [*here[: len(here) - node.level + 1]] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def room(module):
    return module.partition(".")[0]


def test_every_way_to_import_is_seen(tmp_path):
    house = House(tmp_path / "archcalc", "archcalc", "cli\nreport")
    (house.root / "report").mkdir(parents=True)
    for name in ("__init__", "cli", "report/__init__", "report/sheet"):
        (house.root / f"{name}.py").touch()
    for text in (
        "from archcalc import cli, report",
        "from . import cli, report",
        "import archcalc.cli, archcalc.report",
        "from .cli import x\nfrom archcalc.report import y",
        "def f():\n    from archcalc.cli import x\n    import archcalc.report",
    ):
        (house.root / "module.py").write_text(text)
        assert list(house.imports(house.root / "module.py")) == ["cli", "report"], text
    inner = house.root / "report" / "inner.py"
    inner.write_text(
        "from ..cli import x\nfrom .sheet import y\nfrom . import z\nimport archcalc\nfrom archcalc import w"
    )
    assert list(house.imports(inner)) == ["cli", "report.sheet", "report", "", ""]


@pytest.mark.parametrize(("house", "name", "path"), EVERY)
def test_a_room_imports_only_rooms_below_it(house, name, path):
    assert room(name) in house.rooms, f"{name} has no place in the list"
    for other in house.imports(path):
        if (name, other) in EXCEPTIONS:
            continue
        assert other or name == "cli", f"{name} imports the package itself; import the module"
        assert not other or house.rooms[room(other)] <= house.rooms[room(name)], f"{name} imports {other}"


def test_no_module_imports_itself_by_way_of_others():
    for house in HOUSES:
        try:
            TopologicalSorter({name: set(house.imports(path)) for name, path in house.modules()}).prepare()
        except CycleError as error:
            pytest.fail(f"{house.name}: {' <- '.join(error.args[1])}")


def test_every_exception_is_still_there_and_every_room_has_a_tenant():
    modules = dict(OURS.modules())
    for name, other in EXCEPTIONS:
        assert other in OURS.imports(modules[name]), f"{name} does not import {other} any more: take it out"
    for house in HOUSES:
        assert set(house.rooms) == {room(name) for name, _ in house.modules()}


def test_archcalc_knows_the_reference_only_where_it_is_run():
    for name, path in OURS.modules():
        if any(room(other) == "archcalc_reference" for other in imported(path, OURS.root)):
            assert room(name) in KNOW_THE_REFERENCE, name


def test_the_reference_s_model_knows_only_the_spec_and_what_stands_around_it_no_count():
    for name, path in REFERENCE.modules():
        names = {n for n in imported(path, REFERENCE.root, typing=False) if room(n) == "archcalc"}
        ours = {".".join(n.split(".")[:-1]) or n for n in names}
        if name == "model.transformer":
            assert ours == {"archcalc.spec.model"}
        elif room(name) == "model":
            assert ours <= {"archcalc.spec.model", "archcalc.errors"}, name
        else:
            assert ours <= AROUND, name


def at_the_start(node):
    """What a module runs when it is imported: all but the insides of functions and what only a type checker reads."""
    for inner in ast.iter_child_nodes(node):
        yield inner
        if not isinstance(inner, ast.FunctionDef) and not only_checked(inner):
            yield from at_the_start(inner)


def test_what_is_heavy_is_imported_only_inside_functions():
    for _, path in OURS.modules():
        for node in at_the_start(tree(path)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None)]
            heavy = [n for n in names if n and n.split(".")[0] in ("torch", "numpy", "archcalc_reference")]
            assert not heavy or not isinstance(node, ast.Import | ast.ImportFrom), f"{path.name}: {names} at the top"


def test_no_module_bears_the_name_of_a_public_function():
    functions = {name for name in archcalc.__all__ if callable(getattr(archcalc, name)) and name.islower()}
    assert functions == {
        *("check", "dump", "flops", "lint", "load", "memory", "params", "ranks", "sweep", "sweep_plans", "traffic")
    }
    assert not functions & {name for name, _ in OURS.modules()}


def test_every_public_name_is_there_and_documented():
    for name in archcalc.__all__:
        value = getattr(archcalc, name)
        assert value.__doc__, name
        assert not value.__doc__.startswith(f"{name}("), f"{name} has only the docstring that Python made"
    assert set(dir(archcalc)) == {*archcalc.__all__, "__version__"}
    with pytest.raises(AttributeError, match="module 'archcalc' has no attribute 'nothing'"):
        _ = archcalc.nothing


def test_modules_are_small_and_say_what_they_are():
    for name, path in OURS.modules():
        text = path.read_text()
        assert ast.get_docstring(tree(path)), name
        assert len(text.splitlines()) <= 320, name
