"""A file in an encoding that an editor chose is told by its name, whatever kind of file it is."""

import json

import pytest
from command import ask
from goodspec import GOOD
from hypothesis import given
from hypothesis import strategies as st

import archcalc
from archcalc.files.encoding import other_encoding, utf8

DEVICE = "schema: 0\nname: mine\ntitle: Mine\ncapacity: {label: 24 GiB}\nbandwidth: 1 GB/s\n"
FILES = {
    "spec.yaml": GOOD,
    "plan.yaml": "schema: 0\nname: p\nsource: here\ndp: 2\ntp: 2\n",
    "device.yaml": DEVICE + "sources: {capacity: s, bandwidth: s}\n",
    "archcalc.yaml": "schema: 0\nlint: {}\n",
    "pyproject.toml": "[tool.archcalc]\nlint = {}\n",
    "config.json": json.dumps({"model_type": "llama", "hidden_size": 8}),
}


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_says_its_encoding(name, codec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "inside"  # where it is not the configuration of the check itself
    folder.mkdir()
    (folder / name).write_bytes(FILES[name].encode(codec))
    answer = ask("check", f"inside/{name}")
    words = f"inside/{name}: is {codec[:6].upper()}, not UTF-8; save it as UTF-8"
    assert answer.err.splitlines()[0].removesuffix(" [AC001]") == words
    assert answer.code == 1


@pytest.mark.parametrize("name", ["spec.yaml", "plan.yaml", "device.yaml", "config.json"])
def test_a_folder_does_not_pass_it_over(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(FILES[name].encode("utf-16"))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / name).write_bytes(FILES[name].encode("utf-16"))
    answer = ask("check", "more/*")
    assert (answer.code, "is UTF-16" in answer.err) == (1, True)


def test_a_project_in_it_is_not_taken_for_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_bytes(FILES["pyproject.toml"].encode("utf-16"))
    answer = ask("check", "gpt2")
    assert (answer.code, answer.err) == (2, "pyproject.toml: is UTF-16, not UTF-8; save it as UTF-8\n")
    (tmp_path / "pyproject.toml").write_bytes("[tool.other]\n".encode("utf-16"))
    assert ask("check", "gpt2").code == 0


@given(st.text(st.characters(max_codepoint=0x7F, min_codepoint=1), min_size=4))
def test_ascii_is_told_from_utf_16_by_its_zeros(text):
    assert other_encoding(text.encode()) is None
    assert utf8(text.encode(), "x") == text
    for codec in ("utf-16-le", "utf-16-be"):
        assert other_encoding(text.encode(codec)) == codec
        with pytest.raises(archcalc.Invalid, match="x: is UTF-16, not UTF-8; save it as UTF-8"):
            utf8(text.encode(codec), "x")


@given(st.binary(max_size=40))
def test_any_bytes_are_text_or_refused(data):
    try:
        assert utf8(data, "x") == data.decode("utf-8-sig")
    except archcalc.Invalid as error:
        assert str(error).startswith("x:")
