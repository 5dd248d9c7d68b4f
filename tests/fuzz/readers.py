"""Everything that reads files from strangers, in one table: the campaign, the guided runs and the tests go over it.

A new kind of file is a row more: good files to begin with, how a file is given on the command line, how it is read
there, and what is then done with what was accepted.
"""

import contextlib
import json
import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from ggufs import gguf_file, info, key, raw, text
from sparse import weights_file

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "specs"
MIXED = (
    *(
        "tiny",
        "gpt2",
        "deepseek-v3",
        "glm-5",
        "gemma-4-26b-a4b",
        "gpt-oss-20b",
        "bloom-560m",
        "opt-350m",
        "mamba-130m",
    ),
    *("jamba-1.5-mini", "falcon-h1-0.5b", "qwen3-next-80b-a3b", "lfm2-1.2b", "nemotron-h-56b", "minimax-m2.5"),
    *("mimo-v2-flash", "llama4-scout-text", "granite4.0-h-350m", "phi-3-mini", "gpt3-xl"),
)
"""Specs that have, together, every kind of block of the catalogue."""


class Reader(NamedTuple):
    """A kind of file; `form` is what mutations know of it.

    `place` puts an input where it is read from and gives what is typed on the command line, `read` reads that, and
    `use` does with it what commands do; its second argument says whether also what takes long.
    """

    form: str
    seeds: Callable[[Path], list[bytes]]
    place: Callable[[Path, bytes], str]
    read: Callable[[str], Any]
    use: Callable[[Any, bool], None]


def _file(name: str) -> Callable[[Path, bytes], str]:
    def place(folder: Path, data: bytes) -> str:
        path = folder / name
        path.write_bytes(data)
        return os.fspath(path)

    return place


def _folder(name: str) -> Callable[[Path, bytes], str]:
    """The same where the folder is what is given."""

    def place(folder: Path, data: bytes) -> str:
        (folder / name).write_bytes(data)
        return os.fspath(folder)

    return place


def _catalogue(room: str, names: tuple[str, ...] = ()) -> list[bytes]:
    paths = sorted((SPECS / room).glob("*.yaml"))
    return [path.read_bytes() for path in paths if not names or path.stem in names]


# What is done with what was accepted.


def _rendered(sheet: Any) -> None:
    from archcalc.report.render import render

    for form in ("table", "markdown", "json", "csv"):
        for line in render(sheet, form).split("\n"):
            assert line.isprintable(), line


def _found(found: Any, deep) -> None:
    """A spec that is valid counts, is checked and is written; what was written is the same spec."""
    from archcalc.checks.audit import audit
    from archcalc.checks.files import broken_promises
    from archcalc.checks.linting import lint
    from archcalc.report.overview import report_sheet
    from archcalc.spec.dumping import dump
    from archcalc.spec.model import Model
    from archcalc.spec.source import parse
    from archcalc.spec.validation import validate

    for problem in broken_promises(found, audit(found.model)):
        assert str(problem).isprintable()
    if deep:
        for problem in lint(found.model):
            assert str(problem).isprintable()
        assert validate(parse(dump(found.model).encode(), "dumped"), Model) == found.model
        _rendered(report_sheet(found))


def _imported(found: Any, deep) -> None:
    from archcalc.errors import ArchcalcError
    from archcalc.huggingface.exporting import export_config
    from archcalc.spec.configs import import_text
    from archcalc.spec.dumping import plain

    _found(found, deep)
    if deep and found.document.origins:
        for line in import_text(found.document, "").split("\n"):
            assert line.isprintable(), line
        with contextlib.suppress(ArchcalcError):  # not every spec has a class in transformers
            export_config(plain(found.model))


@cache
def _model(name: str) -> Any:
    from archcalc.spec.catalogue import find

    return find(name).model


def _plan(plan: Any, deep) -> None:
    """A plan that is valid is held against a model, and what fits it is counted."""
    from archcalc.counts.rankwise import ranked
    from archcalc.errors import ArchcalcError

    if deep:
        try:
            ranked(_model("gpt2"), plan)
        except ArchcalcError as error:
            assert all(line.isprintable() for line in str(error).split("\n"))


def _device(device: Any, deep) -> None:
    from typing import get_args

    from archcalc.hardware.devices import Precision
    from archcalc.hardware.fitting import RESERVE, usable

    del deep
    told = (device.unit, device.label_bytes, device.largest_bytes, device.visible_bytes, device.bandwidth_bytes)
    told = (*told, device.link_bytes, device.watts, *map(device.peak, get_args(Precision)))
    assert all(one is None or one for one in told), told
    assert usable(device, RESERVE) >= 0


def _budgets(project: Any, deep) -> None:
    """What a project says is held against a spec; a budget that cannot be evaluated is a problem, and not raised."""
    from archcalc.checks.budgets import hold_budgets
    from archcalc.checks.linting import lint
    from archcalc.errors import ArchcalcError
    from archcalc.spec.catalogue import find

    if not deep:
        return
    for problem in hold_budgets(project, find("tiny")).problems:
        assert str(problem).isprintable(), problem
    with contextlib.suppress(ArchcalcError):  # a plan, a device or a rule that is not there
        rules = project.configuration.lint
        for problem in lint("tiny", project.aim, rules.select, rules.ignore):
            assert str(problem).isprintable(), problem


def _excused(baseline: Any, deep) -> None:
    del deep
    baseline.without([], "")


def _weights(stored: Any, deep) -> None:
    from typing import get_args

    from archcalc.report.stored import By, stored_sheet

    for by in get_args(By) if deep else ():
        _rendered(stored_sheet(stored, by))


def _held(stored: Any, deep) -> None:
    """The same, and held against a spec as `check --weights` does."""
    from archcalc.commands.held import held_against
    from archcalc.errors import ArchcalcError
    from archcalc.report.verdict import verdict_sheet
    from archcalc.spec.catalogue import find

    _weights(stored, deep)
    if deep:
        try:
            _rendered(verdict_sheet([held_against(find("tiny"), stored.path)], "stored"))
        except ArchcalcError as error:
            assert all(line.isprintable() for line in str(error).split("\n"))


# How each is read.


def _find(spec: str) -> Any:
    from archcalc.spec.catalogue import find

    return find(spec)


def _asked(path: str) -> Any:
    """A question, as the system hands an argument over: of 128 KiB at most, and without zeros."""
    return _find("gpt2@" + os.fsdecode(Path(path).read_bytes()[: 2**17 - 6]).replace("\0", ""))


def _find_plan(path: str) -> Any:
    from archcalc.plan.reading import find_plan

    return find_plan(path, {})


def _find_device(path: str) -> Any:
    from archcalc.hardware.devices import find_device

    return find_device(path)


def _project(path: str) -> Any:
    """What a project has its specs checked for, with what it names."""
    from archcalc.checks.project import find_project

    return find_project(path)


def _baseline(path: str) -> Any:
    from archcalc.checks.baseline import read_baseline

    return read_baseline(path)


def _announced(path: str) -> Any:
    from archcalc.commands.headers import announced

    return announced(path)


def _vectors(path: str) -> Any:
    from archcalc.words.cache import Cache
    from archcalc.words.sources import open_vectors

    return open_vectors(path, None, Cache(used=False))


def _kept(path: str) -> Any:
    """A table of the cache, which is used or not, and nothing is said."""
    import mmap

    from archcalc.errors import Invalid, Problem
    from archcalc.words.cache import _mapped

    with open(path, "rb") as file:
        try:
            table = _mapped(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError):
            table = None
    if table is None:
        raise Invalid(Problem(path, "is not used"))
    return table


def _asked_of(vectors: Any, deep) -> None:
    from archcalc.errors import ArchcalcError
    from archcalc.report.vectors import neighbours_sheet
    from archcalc.words.vectors import evaluate, neighbours

    if deep:
        try:
            target = evaluate(vectors, f'"{vectors.label(0)}"', "EXPRESSION").pointing("EXPRESSION")
            _rendered(neighbours_sheet(vectors, target, neighbours(vectors, target, 9)))
        except ArchcalcError as error:
            assert str(error).isprintable()


def _words_of(table: Any, deep) -> None:
    if deep:
        assert [table.words.word(row) for row in range(table.words.size)] == ["king", "man"]


# Good files of each kind.


@cache
def _configs() -> list[bytes]:
    """Those that are published, and one of each family as its class has it by default."""
    from archcalc.huggingface.families import families

    every = json.loads((ROOT / "tests" / "huggingface" / "configs.json").read_text())
    usual = [{"model_type": one.model_type, **one.defaults} for one in families()]
    return [json.dumps(one).encode() for one in (*(one["config"] for one in every["counted"].values()), *usual)]


_QUESTIONS = (
    *("d_model=64", "n_heads=4,n_kv_heads=2", "context_length=32k", "n_layers=3", "layers.0.attention.n_heads=8"),
    *(
        "vocab_size=50_257, d_ff=1e3",
        "tied=false",
        "activation=relu",
        "layers.0.repeat=2",
        "part=text",
        "d_model=0x10",
    ),
)


def _tensors(folder: Path) -> list[bytes]:
    found = []
    for name, tensors, metadata in (
        ("a", {"wte.weight": ("F16", (8, 4)), "wpe.weight": ("F32", (2, 4)), "h.0.ln_1.bias": ("BF16", (4,))}, None),
        ("b", {f"model.layers.{i}.mlp.up_proj.weight": ("F8_E4M3", (4, 2)) for i in range(3)}, {"format": "pt"}),
        ("c", {"a.qweight": ("I32", (4, 8)), "a.scales": ("F16", (1, 8)), "a.qzeros": ("I32", (1, 1))}, {"x": "a.scales"}),
        ("d", {"w.weight": ("U8", (4, 16)), "w.weight_scale": ("F8_E4M3", (4, 2)), "w.weight_scale_2": ("F32", ())}, None),
        ("e", {"": ("F4", (2,)), "empty": ("F64", (0, 7)), "b.lora_A.weight": ("F32", (2, 2))}, None),
    ):  # fmt: skip
        found.append(weights_file(folder / name, tensors, metadata).read_bytes())
        (folder / name).unlink()
    return found


def _ggufs(folder: Path) -> list[bytes]:
    made = gguf_file(
        folder / "made.gguf", {"token_embd.weight": ((4, 32), "Q8_0"), "blk.0.attn_q.weight": ((2, 256), "Q4_K")},
        general__name="small", llama__block_count=1, tokenizer__ggml__tokens=["a", "b", "c"], alignment=64,
    )  # fmt: skip
    data = made.read_bytes()
    made.unlink()
    return [
        data,
        raw((info("a", [8]),), (info("b", [32], 8, 32),), size=96),
        raw(key("general.architecture", 8, text("llama")), key("split.count", 4, b"\1\0\0\0"), (info("output.weight", [4, 2], 1),), size=32),
        raw(key("x", 9, b"\4\0\0\0\2\0\0\0\0\0\0\0" + bytes(8)), (info("a", [], 0),), size=32, version=2),
        raw(),
    ]  # fmt: skip


INDEX = "model.safetensors.index.json"


def _indexes(folder: Path) -> list[bytes]:
    del folder
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    names = {"a.weight": first, "b.weight": second}
    return [
        json.dumps(one).encode()
        for one in ({"metadata": {"total_size": 16}, "weight_map": names}, {"weight_map": {"a.weight": first}})
    ]


def _index(folder: Path, data: bytes) -> str:
    if not (folder / "model-00001-of-00002.safetensors").exists():
        for i, name in enumerate("ab"):
            weights_file(folder / f"model-0000{i + 1}-of-00002.safetensors", {f"{name}.weight": ("F32", (2, 1))})
    return _file(INDEX)(folder, data)


_SAID = (
    {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}},
    {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
    {"text_config": {"compression_config": {"config_groups": {"g": {"weights": {"num_bits": 8, "group_size": 32}}}}}},
    {"quantization": {"quant_algo": "NVFP4", "group_size": 16}},
)


def _packed(folder: Path, data: bytes) -> str:
    if not (folder / "model.safetensors").exists():
        tensors = {
            "a.qweight": ("I32", (4, 8)),
            "a.scales": ("F16", (1, 8)),
            "b.weight": ("F8_E4M3", (4, 4)),
            "b.weight_scale": ("U8", (1, 1)),
        }
        weights_file(folder / "model.safetensors", tensors)
    return _folder("config.json")(folder, data)


_STATE = {
    "version": 1, "step": 1, "sequences": 2, "threads": 1, "seal": "0" * 64, "settings": {"steps": 2, "batch": 2},
    "data": {"paths": ["a.txt"]}, "files": {"model.safetensors": {"size": 1, "sha256": "0" * 64}},
}  # fmt: skip


def _state(folder: Path, data: bytes) -> str:
    training = folder / "step-00000001"
    training.mkdir(exist_ok=True)
    (training / "state.json").write_bytes(data)
    return os.fspath(folder)


_BUDGETS = """\
schema: 0
specs: [specs/*.yaml]
exclude: ["old/**"]
budgets:
  - {that: parameters.stored, most: 1.6B, least: 1k, why: "it must fit a phone"}
  - {that: cache.per_token, most: 300 KiB, when: {kv_precision: bf16}}
  - {that: memory.total, fits: a100-40gb, reserve: 10, when: {for: training, batch: 1, recompute: full, plan: zero1-dp8}}
  - {that: flops.training, most: 1.2x gpt2, when: {seq: 32, attention: math}, specs: [tiny]}
lint: {select: [AC], ignore: [AC110], fail_on: warning, devices: [h100-sxm], plans: [tp8]}
"""
_TOML = """\
[project]
name = "x"
[tool.archcalc]
specs = ["specs/*.yaml"]
[[tool.archcalc.budgets]]
that = "memory.total"
fits = "a100-40gb"
when = {for = "inference", batch = 8, kv_precision = "fp8"}
[tool.archcalc.lint]
ignore = ["AC1"]
"""
_KNOWN = {
    "schema": 0, "problems": [
        {"file": "specs/a.yaml", "rule": "AC101", "path": "layers.0.mlp.d_ff"},
        {"file": "specs/b.yaml", "rule": "AC001", "path": "", "budget": "parameters.stored most 1.6B", "figure": 1700000000},
    ],
}  # fmt: skip


_WORDS = (b"king 1 2\nman 3 4\n", b"2 2\nking 1 2\nman 3 4\n")


def _npys(folder: Path) -> list[bytes]:
    import numpy as np

    (folder / "fuzzed.txt").write_text("king\nman\n")
    found = []
    for kind in ("<f4", "<f2", ">f8"):
        np.save(folder / "made.npy", np.array([[1, 2], [3, 4]], kind))
        found.append((folder / "made.npy").read_bytes())
    (folder / "made.npy").unlink()
    return found


def _binaries(folder: Path) -> list[bytes]:
    import struct

    del folder
    two = [word + struct.pack("<2f", *numbers) for word, numbers in ((b"king ", (1, 2)), (b"man ", (3, 4)))]
    return [b"2 2\n" + two[0] + end + two[1] + end for end in (b"\n", b"")]


def _tables(folder: Path) -> list[bytes]:
    import numpy as np

    from archcalc.words.cache import _parts, _pieces
    from archcalc.words.wordlist import word_list

    del folder
    blocks = [np.array([[1, 2], [3, 4]], np.float32)]
    words = word_list(["king", "man"])
    return [b"".join(_pieces(_parts(words, some, ["so"]))) for some in (blocks, [])]


_MARK = "\N{LOWER ONE EIGHTH BLOCK}"
_TEMPLATE = {
    "type": "TemplateProcessing", "pair": [],
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
}  # fmt: skip
_BERTS = {"type": "BertProcessing", "sep": ["b", 2], "cls": ["<s>", 0]}
_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_PART = {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated", "invert": False}
_ADDED = {
    "id": 0,
    "content": "<s>",
    "lstrip": False,
    "rstrip": True,
    "single_word": False,
    "normalized": False,
    "special": True,
}
_FOUR = {"<s>": 0, "a": 1, "b": 2, "ab": 3}


def _tokenizers() -> list[bytes]:
    """Each kind of model, with the steps that published ones have."""
    blanks = {"type": "Replace", "pattern": {"String": " "}, "content": _MARK}
    prepend = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": _MARK}, blanks]}
    merges = {"type": "BPE", "vocab": _FOUR, "merges": ["a b"]}
    return [
        json.dumps({"version": "1.0", "added_tokens": [_ADDED], **one}).encode()
        for one in (
            {"pre_tokenizer": _LEVEL, "decoder": _LEVEL, "post_processor": _TEMPLATE, "model": merges},
            {"normalizer": prepend, "model": {**merges, "byte_fallback": True, "unk_token": "<s>"}},
            {
                "pre_tokenizer": {"type": "Sequence", "pretokenizers": [_PART, {**_LEVEL, "use_regex": False}]},
                "post_processor": {"type": "Sequence", "processors": [_LEVEL, _TEMPLATE]},
                "model": {**merges, "ignore_merges": True},
            },
            {
                "normalizer": {"type": "BertNormalizer", "lowercase": True, "clean_text": True, "handle_chinese_chars": True},
                "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": _BERTS,
                "model": {"type": "WordPiece", "unk_token": "<s>", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9, "vocab": _FOUR},
            },
            {
                "pre_tokenizer": {"type": "Metaspace", "replacement": _MARK, "prepend_scheme": "always", "split": True},
                "decoder": {"type": "Metaspace", "replacement": _MARK, "prepend_scheme": "always", "split": True},
                "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<s>", 0.0], ["a", -1.5], ["b", -2.0], [_MARK, -3.0]]},
            },
        )
    ]  # fmt: skip


_TOLD = (
    {"bos_token": "<s>", "eos_token": {"content": "b", "lstrip": True}, "add_bos_token": True, "add_eos_token": False},
    {"added_tokens_decoder": {"4": {"content": "<x>", "special": True}}, "extra_special_tokens": ["<y>"], "add_prefix_space": False},
)  # fmt: skip


_RANKS = b"YQ== 0\nYg== 1\nYWI= 2\nIA== 3\nIGFi 4\n"  # a, b, ab, a blank, and one with ab


def _told(folder: Path, data: bytes) -> str:
    """Settings beside a tokenizer that is good."""
    (folder / "tokenizer.json").write_bytes(_tokenizers()[0])
    return _folder("tokenizer_config.json")(folder, data)


def _tokenizer(path: str) -> Any:
    from archcalc_reference.text.tokenizer import named_tokenizer

    folder = path if os.path.isdir(path) else os.path.dirname(path)
    return named_tokenizer(folder)


def _cuts(tokenizer: Any, deep) -> None:
    """Texts become ids of its vocabulary, also with what goes around them; or the text is refused in a line."""
    from archcalc.errors import ArchcalcError
    from archcalc_reference.text.around import begun, spelled

    spelled(tokenizer.around, tokenizer.text_of)
    if getattr(getattr(tokenizer, "_encode", None), "__qualname__", "").startswith("_elsewhere"):
        return  # its pattern is not known: a process that can be ended cuts by it, and tests of its own look at that
    for typed in ("ab a<s> b", "a" * 300, "\u732b\r\n")[: 3 if deep else 1]:
        try:
            ids = [*begun(tokenizer.cut(typed)[0], tokenizer.around.before), *tokenizer.around.after]
        except ArchcalcError:
            continue
        assert all(0 <= one < tokenizer.vocab_size for one in ids)
        tokenizer.decode(ids)


READERS: dict[str, Reader] = {
    "spec": Reader("yaml", lambda _: _catalogue("models", MIXED), _file("fuzzed.yaml"), _find, _found),
    "plan": Reader("yaml", lambda _: _catalogue("plans"), _file("fuzzed.yaml"), _find_plan, _plan),
    "device": Reader("yaml", lambda _: _catalogue("hardware"), _file("fuzzed.yaml"), _find_device, _device),
    "config.json": Reader("json", lambda _: _configs(), _folder("config.json"), _find, _imported),
    "either": Reader("json", lambda _: [*_catalogue("models", MIXED), *_configs()[:20]], _file("fuzzed.txt"), _find, _imported),
    "question": Reader("text", lambda _: [one.encode() for one in _QUESTIONS], _file("question"), _asked, _found),
    "safetensors": Reader("safetensors", _tensors, _file("fuzzed.safetensors"), _announced, _held),
    "index": Reader("json", _indexes, _index, _announced, _weights),
    "quantization": Reader("json", lambda _: [json.dumps(one).encode() for one in _SAID], _packed, _announced, _weights),
    "gguf": Reader("gguf", _ggufs, _file("fuzzed.gguf"), _announced, _held),
    "budgets": Reader("yaml", lambda _: [_BUDGETS.encode()], _file("archcalc.yaml"), _project, _budgets),
    "pyproject.toml": Reader("text", lambda _: [_TOML.encode()], _file("pyproject.toml"), _project, _budgets),
    "baseline": Reader("json", lambda _: [json.dumps(_KNOWN).encode()], _file("fuzzed.json"), _baseline, _excused),
    "vectors": Reader("text", lambda _: list(_WORDS), _file("fuzzed.vec"), _vectors, _asked_of),
    "npy": Reader("text", _npys, _file("fuzzed.npy"), _vectors, _asked_of),
    "word2vec": Reader("text", _binaries, _file("fuzzed.bin"), _vectors, _asked_of),
    "cache": Reader("text", _tables, _file("fuzzed.words"), _kept, _words_of),
    "tokenizer.json": Reader("json", lambda _: _tokenizers(), _file("tokenizer.json"), _tokenizer, _cuts),
    "tokenizer.model": Reader("text", lambda _: [_RANKS], _file("tokenizer.model"), _tokenizer, _cuts),
    "tokenizer_config.json": Reader("json", lambda _: [json.dumps(one).encode() for one in _TOLD], _told, _tokenizer, _cuts),
    "state.json": Reader("json", lambda _: [json.dumps(_STATE).encode()], _state, _find, partial(_found)),
}  # fmt: skip
"""By the name of the kind."""
