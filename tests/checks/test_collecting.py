"""Which files a check looks at, and what each is."""

import json
import os

import pytest
import yaml
from goodspec import GOOD

import archcalc
from archcalc.checks.collecting import Target, collect, kind_of

PLAN = "schema: 0\nname: two\nsource: this test\ntp: 2\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {
        "specs/b.yaml": GOOD,
        "specs/a.yml": GOOD,
        "specs/deep/c.yaml": GOOD,
        "specs/.hidden.yaml": GOOD,
        "specs/notes.txt": "schema: 0",
        "specs/node_modules/d.yaml": GOOD,
        ".cache/e.yaml": GOOD,
        "plans/two.yaml": PLAN,
        "model/config.json": '{"model_type": "gpt2"}',
        "model/model.safetensors": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def paths(*asked, exclude=()):
    return [target.path for target in collect(asked, exclude)]


@pytest.mark.usefixtures("here")
def test_a_folder_is_walked_in_order_without_what_is_hidden():
    assert paths("specs") == ["specs/a.yml", "specs/b.yaml", "specs/deep/c.yaml"]
    assert paths("specs", exclude=["specs/deep/*"]) == ["specs/a.yml", "specs/b.yaml"]
    assert paths("specs", exclude=["b.yaml"]) == ["specs/a.yml", "specs/deep/c.yaml"]
    assert paths(".")[:2] == ["./model/config.json", "./model/model.safetensors"]


@pytest.mark.usefixtures("here")
def test_patterns_find_files_and_names_stay_names():
    assert paths("specs/*.yaml", "specs/b.yaml", "gpt2") == ["specs/b.yaml", "gpt2"]
    assert paths("specs/**/*.y*ml") == [
        "specs/a.yml",
        "specs/b.yaml",
        "specs/deep/c.yaml",
        "specs/node_modules/d.yaml",
    ]
    assert paths("specs/b.yaml", "./specs/b.yaml", "specs/../specs/b.yaml") == ["specs/b.yaml"]
    assert paths("model") == ["model"], "a model's folder is a spec"
    assert paths("none.yaml", "gpt9", "gpt2@n_layers=2", "-") == ["none.yaml", "gpt9", "gpt2@n_layers=2", "-"]


@pytest.mark.parametrize("path", ["specs/*.yaml.bak", "empty"])
def test_what_has_no_file_is_missing(here, path):
    (here / "empty").mkdir()
    with pytest.raises(archcalc.Missing) as error:
        collect([path])
    assert str(error.value).startswith(f"{path}: ")


def test_links_to_folders_are_not_followed(here):
    os.symlink(here, here / "specs" / "loop")
    assert len(paths("specs")) == 3


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        (GOOD, "model", "model"),
        (PLAN, "plan", "plan"),
        ("schema: 0\ncapacity: {label: 80 GB}\n", "device", "device"),
        ("schema: 0\nbudgets: []\n", "configuration", "configuration"),
        ("version: 3\nservices: {}\n", "model", "unknown"),
        ("d_model: 3\n", "model", "unknown"),
        ("# yaml-language-server: $schema=../schema/plan.json\nname: x\n", "plan", "plan"),
        ("# yaml-language-server: $schema=https://x/schema/device.draft-07.json\n", "device", "device"),
        ("", "model", "unknown"),
        ("[", "model", "unknown"),
    ],
)
def test_a_kind_is_told_by_the_fields_at_the_margin(here, text, kind, found):
    (here / "x.yaml").write_text(text)
    assert kind_of(Target("x.yaml")) == kind
    assert kind_of(Target("x.yaml", found=True)) == found


def test_a_config_that_was_found_is_one_of_a_model(here):
    (here / "config.json").write_text('{"compilerOptions": {}}')
    assert kind_of(Target("config.json", found=True)) == "unknown"
    assert kind_of(Target("config.json")) == "config"
    assert kind_of(Target("model/config.json", found=True)) == "config"
    assert kind_of(Target("model/model.safetensors", found=True)) == "weights"


def test_no_name_of_a_file_begins_a_line_as_a_command_of_a_runner(here):
    for name in ("::error::x.yaml", "##[group]x.yaml"):
        (here / name).write_text("schema: 0")
        assert paths(name) == paths(f"./{name}") == [f"./{name}"]
    assert paths("*x.yaml") == ["./##[group]x.yaml", "./::error::x.yaml"]


FIELDS = {
    "model": ["layers", "vocab_size", "d_model", "unembedding"],
    "configuration": ["budgets", "lint", "baseline", "specs"],
    "device": ["capacity", "dense_peak", "bandwidth"],
    "plan": ["dp", "tp", "pp", "cp", "ep", "zero", "micro_batch", "accumulation", "framework"],
}


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, fields in FIELDS.items() for field in fields])
def test_each_field_that_one_kind_alone_has_tells_it(here, kind, field):
    for name in (field, f'"{field}"', f"'{field}' "):
        (here / "x.yml").write_text(f"schema: 0\n# a note\n{name}: 1\n  layers: 1\n")
        assert kind_of(Target("x.yml", found=True)) == kind
        (here / "x.yml").write_text(f"a:\n  {name}: 1\n")
        assert kind_of(Target("x.yml", found=True)) == "unknown"


@pytest.mark.parametrize(
    ("schema", "kind"),
    [("model", "model"), ("plan", "plan"), ("device", "device"), ("budgets", "configuration"), ("other", "unknown")],
)
def test_the_schema_that_a_file_names_tells_its_kind(here, schema, kind):
    for name in ("{}.json", "../schema/{}.json", "{}-07.json", "https://example.com/x/{}.draft-07.json"):
        line = f"# yaml-language-server: $schema={name.format(schema)}\n"
        (here / "x.yaml").write_text(f"# a note\n{line}services: 1\n")
        assert kind_of(Target("x.yaml", found=True)) == kind
    (here / "x.yaml").write_text("#" * 4096 + f"\n{line}services: 1\n")
    assert kind_of(Target("x.yaml", found=True)) == "unknown", "it stands at the beginning"


def test_names_tell_what_is_no_yaml(here):
    (here / "model" / "other.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
    assert kind_of(Target("model/other.json", found=True)) == "config"
    for name, kind in {
        "x.gguf": "weights",
        "x.safetensors": "weights",
        "gpt2": "model",
        "none.json": "config",
    }.items():
        assert kind_of(Target(name)) == kind
    assert kind_of(Target("none.yaml", found=True)) == "model"


def test_files_of_weights_of_every_form_are_found(here):
    for name in (
        "w.gguf",
        "w.safetensors",
        "w.bin",
        "x.json",
        "deep/config.json",
        "__pycache__/x.yaml",
        "venv/x.yaml",
    ):
        (here / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "all" / name).write_text("")
    assert paths("all") == ["all/w.gguf", "all/w.safetensors", "all/deep/config.json"]
    assert [one.found for one in collect(["all", "specs/b.yaml", "specs/[b].yaml"])] == [True] * 3 + [False]


@pytest.mark.usefixtures("here")
def test_files_are_bounded(monkeypatch):
    monkeypatch.setattr("archcalc.checks.collecting.MOST_FILES", 3)
    assert len(paths("specs")) == 3
    with pytest.raises(archcalc.Invalid) as error:
        collect(["specs", "plans"])
    assert str(error.value) == "plans: has more than 3 files; check parts of it"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "".join(f" {line}\n" for line in text.splitlines()),
        lambda text: "---\n# a note\n" + text,
        lambda text: text.replace("schema: 0\n", ""),
        lambda text: json.dumps(yaml.safe_load(text)),
        lambda text: text + "name: twice\n",
    ],
)
def test_a_spec_that_is_found_is_never_passed_over(here, change):
    """Whether its reader takes it or not, it is one."""
    (here / "x.yaml").write_bytes(change(GOOD).encode())
    assert kind_of(Target("x.yaml", found=True)) == "model"
    (here / "x.yaml").write_bytes(change(GOOD).encode("utf-16"))
    assert kind_of(Target("x.yaml", found=True)) == "model"


def test_a_folder_that_is_a_spec_has_its_other_specs_looked_at_too(here):
    (here / "model" / "own.yaml").write_text(GOOD)
    assert paths("model") == ["model", "model/own.yaml"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_file_is_of_its_kind_in_every_encoding_that_says_its_own(tmp_path, encoding, line_end):
    """Its reader takes UTF-8 alone, and says so; what nobody recognised would be passed over without a word."""
    text = line_end.join(("schema: 0", "dp: 2", "tp: 4", ""))
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    path = tmp_path / "x.yaml"
    path.write_bytes(mark + text.encode(encoding))
    assert kind_of(Target(str(path), found=True)) == "plan"
