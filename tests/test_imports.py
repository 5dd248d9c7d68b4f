"""Who may import whom, as a list, checked with ast."""

import ast
from pathlib import Path

import pytest

import archcalc

ROOT = Path(archcalc.__file__).parent

# Each module may import those before it in the list; `|` joins modules that may not import each other.
DIRECTION = """
docstrings | reading | errors | unsupported | scalars
packages
arguments | escaping
units | legend | precision | probability
run
tape
blocks.base
blocks.norm | blocks.attention | blocks.mlp | blocks.embedding
blocks.unembedding
blocks
spec
source | verdict | vectors | miniature | counterpart
wordfile
validation | question
formula
lettered
count
work
kernels | numerics
autocast
activations
liveness | inference | repetition | traffic
footprint
allocator | serving
audit | witness | watching | checkpoints
tokentable
catalogue
hardware | strategies | axes
duration
quantities
fitting | schema | grid | learning | report.cells
report.sheet | report.narrow | report.duration
report.render | writing
output | report.params | report.verdict | report.listing | report.quantities | report.work | report.grid | report.softmax | report.vectors | report.tokens
report.plot | report.prediction
report.journey | report.drift
report.live
report.memory
report.overview | report.trace | report.explanation
report.difference
report.progress
report.training
report
commands.overview
commands.base
commands.asking | commands.timing | commands.settling | commands.weights
commands.session
commands.count | commands.choosing | commands.device | commands.explaining | commands.trust | commands.running | commands.training | commands.generating | commands.chatting | commands.tokens | commands.text | commands.files
commands
cli
"""
RANK = {
    name.strip(): rank for rank, line in enumerate(DIRECTION.split("\n")) for name in line.split("|") if name.strip()
}


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            yield name, path


def imports(path):
    """Modules of archcalc that a file imports, however it is written."""
    here = ("archcalc", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*here[: len(here) - node.level + 1], *filter(None, [node.module])])
                if node.level
                else node.module
            )
            found = [
                f"{base}.{alias.name}" if f"{base}.{alias.name}".removeprefix("archcalc.") in RANK else base
                for alias in node.names
            ]
        else:
            continue
        yield from (name.removeprefix("archcalc.") for name in found if name.startswith("archcalc."))


def test_every_way_to_import_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    for text in (
        "from archcalc import cli, count",
        "from . import cli, count",
        "import archcalc.cli, archcalc.counts.parameters",
        "from .cli import x\nfrom archcalc.counts.parameters import y",
    ):
        (tmp_path / "module.py").write_text(text)
        assert list(imports(tmp_path / "module.py")) == ["cli", "count"], text
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "inner.py").write_text("from ..cli import x\nfrom .sheet import y")
    assert list(imports(tmp_path / "report" / "inner.py")) == ["cli", "report.sheet"]


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_point_one_way(name, path):
    assert name in RANK, f"{name} has no place in the list"
    for imported in imports(path):
        assert RANK[imported] < RANK[name], f"{name} imports {imported}"


def test_the_list_names_no_module_that_is_gone():
    assert set(RANK) == {name for name, _ in modules()}


def test_the_reference_is_imported_only_inside_functions():
    for _, path in modules():
        tree = ast.parse(path.read_text())
        later = [
            n
            for n in ast.walk(tree)
            if isinstance(n, ast.FunctionDef) or "TYPE_CHECKING" in ast.unparse(getattr(n, "test", n))[:13]
        ]
        inside = {n for block in later for n in ast.walk(block)}
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None)]
            if isinstance(node, (ast.Import, ast.ImportFrom)) and any(
                n and n.split(".")[0] in ("torch", "numpy", "archcalc_reference") for n in names
            ):
                assert node in inside, f"{path.name}: {names} at the top level"


def test_no_module_bears_the_name_of_a_public_function():
    functions = {name for name in archcalc.__all__ if callable(getattr(archcalc, name)) and name.islower()}
    assert functions == {"check", "dump", "flops", "load", "memory", "params", "sweep"}
    assert not functions & {name for name, _ in modules()}


def test_every_public_name_is_there_and_documented():
    for name in archcalc.__all__:
        value = getattr(archcalc, name)
        assert value.__doc__, name
        assert not value.__doc__.startswith(f"{name}("), f"{name} has only the docstring that Python made"
    assert set(dir(archcalc)) == {*archcalc.__all__, "__version__"}
    with pytest.raises(AttributeError, match="module 'archcalc' has no attribute 'nothing'"):
        _ = archcalc.nothing


def test_modules_are_small_and_say_what_they_are():
    for name, path in modules():
        text = path.read_text()
        assert ast.get_docstring(ast.parse(text)), name
        assert len(text.splitlines()) <= 320, name
