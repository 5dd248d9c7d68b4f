"""Models of the Hub, read from a server on this machine: config.json and the ranges of headers, and nothing else."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from command import ask, spawn

pytest.importorskip("huggingface_hub")

CONFIG = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 50, "n_positions": 16, "n_embd": 8,
    "n_layer": 2, "n_head": 2,
}  # fmt: skip
# GPT-2's tensors as its checkpoint names and shapes them: Conv1D has the input first.
LAYER = {
    "ln_1.weight": [8], "ln_1.bias": [8], "ln_2.weight": [8], "ln_2.bias": [8], "attn.c_attn.weight": [8, 24],
    "attn.c_attn.bias": [24], "attn.c_proj.weight": [8, 8], "attn.c_proj.bias": [8], "mlp.c_fc.weight": [8, 32],
    "mlp.c_fc.bias": [32], "mlp.c_proj.weight": [32, 8], "mlp.c_proj.bias": [8],
}  # fmt: skip
TENSORS = {
    "wte.weight": [50, 8], "wpe.weight": [16, 8], "ln_f.weight": [8], "ln_f.bias": [8],
    **{f"h.{i}.{name}": shape for i in range(2) for name, shape in LAYER.items()},
}  # fmt: skip


def size(shape):
    count = 4
    for n in shape:
        count *= n
    return count


def safetensors(tensors):
    found, end = {}, 0
    for name, shape in tensors.items():
        start, end = end, end + size(shape)
        found[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(found).encode()
    return len(text).to_bytes(8, "little") + text, end


@pytest.fixture
def hub(monkeypatch):
    """A server with some files by their paths: bytes, or a status; it tells what was asked of it."""
    files, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
            found = files.get(self.path, 404)
            if isinstance(found, int | str):
                self.send_response(302 if isinstance(found, str) else found)
                if isinstance(found, str):
                    self.send_header("Location", found)
                self.send_header("Content-Length", "0")
                return self.end_headers()
            data, behind = found if isinstance(found, tuple) else (found, 0)
            whole = len(data) + behind
            first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            first, last = int(first), min(int(last), whole - 1)
            reach = 2**18 if self.path.endswith(".gguf") else 0
            assert last < len(data) + reach, "bytes of tensors were asked for"
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
            self.send_header("Content-Length", f"{last + 1 - first}")
            self.end_headers()
            self.wfile.write((data + bytes(min(behind, reach)))[first : last + 1])
            return None

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield files, asked
    server.shutdown()
    server.server_close()


AT = "/org/small/resolve/main/"


def published(files, at=AT):
    files[f"{at}config.json"] = json.dumps(CONFIG).encode()
    files[f"{at}model.safetensors"] = safetensors(TENSORS)


def test_a_model_of_the_hub_is_a_spec_wherever_one_is_taken(hub):
    files, asked = hub
    published(files)
    expected = sum(map(size, TENSORS.values())) // 4
    told = ask("params", "hf:org/small", "-f", "json").json
    assert told["parameters"]["stored"] == expected
    assert told["spec"] == "small"
    assert [path for path, _, _ in asked] == [f"{AT}config.json"]
    assert ask("params", "hf:org/small@n_layers=1", "-f", "json").json["parameters"]["stored"] < expected
    assert ask("memory", "hf:org/small", "--for", "inference").code == 0
    assert ask("diff", "hf:org/small", "gpt2").code == 0


def test_a_revision_is_a_name_after_the_at(hub):
    files, asked = hub
    published(files, "/org/small/resolve/v2/")
    assert ask("params", "hf:org/small@v2").code == 0
    assert ask("params", "hf:org/small@v2@n_layers=1").code == 0
    assert ask("params", "hf:org/small").code == 3
    assert asked[0][0] == "/org/small/resolve/v2/config.json"


def test_headers_are_held_against_the_spec_without_a_number_of_the_weights(hub):
    files, asked = hub
    published(files)
    done = ask("check", "hf:org/small", "--weights", "hf:org/small")
    assert (done.code, done.err) == (0, ""), done.out + done.err
    ranges = [given for path, given, _ in asked if path.endswith(".safetensors")]
    header = len(files[f"{AT}model.safetensors"][0])
    assert ranges == ["bytes=0-7", f"bytes=0-{header - 1}"]
    files[f"{AT}model.safetensors"] = safetensors({**TENSORS, "wpe.weight": [15, 8]})
    done = ask("check", "hf:org/small", "--weights", "hf:org/small")
    assert done.code == 1
    assert "wpe.weight" in done.out


def test_shards_are_read_as_the_index_names_them(hub):
    files, _ = hub
    published(files)
    del files[f"{AT}model.safetensors"]
    names = list(TENSORS)
    parts = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    index = {"weight_map": {name: file for file, its in parts.items() for name in its}}
    files[f"{AT}model.safetensors.index.json"] = json.dumps(index).encode()
    for file, its in parts.items():
        files[AT + file] = safetensors({name: TENSORS[name] for name in its})
    done = ask("check", "hf:org/small", "--weights", "hf:org/small")
    assert (done.code, done.err) == (0, "")
    del files[f"{AT}b.safetensors"]
    done = ask("check", "hf:org/small", "--weights", "hf:org/small")
    assert (done.code, done.err) == (
        3,
        "hf:org/small: has no b.safetensors, although model.safetensors.index.json names it\n",
    )
    index["weight_map"]["wte.weight"] = "../../other/model.safetensors"
    files[f"{AT}model.safetensors.index.json"] = json.dumps(index).encode()
    done = ask("check", "hf:org/small", "--weights", "hf:org/small")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "must name a .safetensors file beside it" in done.err


def test_a_damaged_header_is_told_by_the_name_that_was_typed(hub):
    files, _ = hub
    published(files)
    data, behind = files[f"{AT}model.safetensors"]
    files[f"{AT}model.safetensors"] = data, behind - 4
    done = ask("check", "hf:org/small", "--weights", "hf:org/small")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith("hf:org/small/model.safetensors: is not a complete safetensors file")
    files[f"{AT}model.safetensors"] = (2**40).to_bytes(8, "little") + b"{}", 100
    done = ask("check", "hf:org/small", "--weights", "hf:org/small")
    assert (done.code, done.err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (404, "hf:org/small: is not on the Hub, or has no config.json; a private or gated one needs a token"),
        (401, "hf:org/small: is not given out by http://127.0.0.1:"),
        (403, "hf:org/small: is not given out by http://127.0.0.1:"),
        (500, "hf:org/small: is not given out by http://127.0.0.1:"),
        ("ftp://127.0.0.1/config.json", "hf:org/small: "),
        ("/loop", "hf:org/small: "),
    ],
)
def test_what_the_server_refuses_is_one_line_and_something_missing(hub, status, line):
    files, _ = hub
    files[f"{AT}config.json"] = status
    files["/loop"] = "/loop"
    done = ask("params", "hf:org/small")
    assert (done.code, done.out, done.err.count("\n")) == (3, "", 1), done.err
    assert done.err.startswith(line)


def test_it_is_found_where_the_server_points_and_the_token_stays_with_it(hub, monkeypatch):
    files, asked = hub
    published(files)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    files["/elsewhere"] = files[f"{AT}config.json"]
    port = os.environ["HF_ENDPOINT"].rpartition(":")[2]
    files[f"{AT}config.json"] = f"http://localhost:{port}/elsewhere"
    assert ask("params", "hf:org/small").code == 0
    assert [(path.rpartition("/")[2], token) for path, _, token in asked] == [
        ("config.json", "Bearer hf_secret"),
        ("elsewhere", None),
    ]


def test_offline_and_no_server_are_one_line(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = ask("params", "hf:org/small")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert done.err.startswith("hf:org/small: cannot be read from http://127.0.0.1:9; got ")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert ask("params", "hf:org/small").err == "hf:org/small: is on the Hub, and HF_HUB_OFFLINE is set\n"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    done = ask("params", "hf:org/small")
    assert (done.code, done.err) == (2, "HF_ENDPOINT: must be an address of http or https; got 'file:///etc'\n")


def test_a_fresh_process_knows_the_hub_s_own_address(monkeypatch):
    """It is a constant of a module that the package does not import by itself."""
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    done = spawn("params", "hf:org/small", env={"https_proxy": "http://127.0.0.1:9"})
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert done.err.startswith("hf:org/small: cannot be read from https://huggingface.co; got ")


@pytest.mark.parametrize("name", ["hf:", "hf:../x", "hf:a/b/c", "hf:org/small@../x", "hf:org/sm all", "hf:http://x/y"])
def test_what_is_no_name_of_the_hub_is_refused_before_anything_is_asked(hub, name):
    _, asked = hub
    done = ask("params", name)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "is not the name of a model of the Hub" in done.err
    assert asked == []


def test_a_config_that_is_too_large_is_refused(hub):
    files, _ = hub
    files[f"{AT}config.json"] = b"{" + b" " * 5_000_000
    done = ask("params", "hf:org/small")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "is larger than 4,194,304 bytes" in done.err


BLOCKS = {"token_embd.weight": ((64, 512), "Q4_K"), "output_norm.weight": ((512,), "F32")}
# 64 x 512 numbers in 128 blocks of 144 bytes; 512 of four bytes.
NUMBERS, BYTES = 64 * 512 + 512, 128 * 144 + 4 * 512


def gguf(tmp_path, tensors=BLOCKS, tokens=200_000, **keys):
    """The header of a GGUF file with a vocabulary, and the bytes behind it."""
    from ggufs import gguf_file

    from archcalc.huggingface.gguf import read_gguf

    texts = {"tokenizer__ggml__tokens": [f"token {i}" * (i % 3) for i in range(tokens)]} if tokens else {}
    path = gguf_file(tmp_path / "one.gguf", tensors, **keys, **texts)
    data, length = path.read_bytes(), read_gguf(str(path)).header_bytes
    return data[:length], len(data) - length


def listed(files, *names, at="/api/models/org/small"):
    files[at] = json.dumps({"id": "org/small", "siblings": [{"rfilename": name} for name in names]}).encode()


def test_a_gguf_file_of_the_hub_is_counted_by_its_header_alone(hub, tmp_path):
    files, asked = hub
    files[f"{AT}Q4/a-Q4_K.gguf"] = gguf(tmp_path)
    header = len(files[f"{AT}Q4/a-Q4_K.gguf"][0])
    assert header > 10 * 2**18
    done = ask("params", "hf:org/small/Q4/a-Q4_K.gguf", "-f", "json")
    assert (done.code, done.err) == (0, "")
    assert (done.json["parameters"]["stored"], done.json["stored_bytes"]) == (NUMBERS, BYTES)
    assert (done.json["files"], done.json["header_bytes"]) == (["hf:org/small/Q4/a-Q4_K.gguf"], header)
    ranges = [given.removeprefix("bytes=").split("-") for path, given, _ in asked if path.endswith(".gguf")]
    starts, ends = [int(one) for one, _ in ranges], [int(last) + 1 for _, last in ranges]
    assert starts == [0, *ends[:-1]]  # each byte is asked for once
    assert len(ranges) < 20
    files["/org/small/resolve/v2/a-Q4_K.gguf"] = files[f"{AT}Q4/a-Q4_K.gguf"]
    assert ask("params", "hf:org/small/a-Q4_K.gguf@v2", "-f", "json").json["parameters"]["stored"] == NUMBERS


def test_a_model_that_has_gguf_files_only_is_counted_where_it_is_clear_which(hub, tmp_path):
    files, _ = hub
    files[f"{AT}a-Q4_K.gguf"] = gguf(tmp_path, tokens=0)
    listed(files, "README.md", "a-Q4_K.gguf")
    assert ask("params", "hf:org/small", "-f", "json").json["parameters"]["stored"] == NUMBERS
    done = ask("memory", "hf:org/small")
    assert (done.code, done.err) == (
        3,
        "hf:org/small: has weights and no config.json; `archcalc params hf:org/small` counts its weights\n",
    )
    listed(files, "a-Q4_K.gguf", "a-Q8_0-00001-of-00002.gguf", "a-Q8_0-00002-of-00002.gguf", "../b.gguf")
    done = ask("params", "hf:org/small")
    said = "name one: hf:org/small/a-Q4_K.gguf, hf:org/small/a-Q8_0-00001-of-00002.gguf"
    assert (done.code, done.err) == (2, f"hf:org/small: holds 2 GGUF models; {said}\n")
    done = ask("params", "hf:org/small/a-Q4_0.gguf")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert done.err.startswith("hf:org/small/a-Q4_0.gguf: no such file on the Hub; nearest: hf:org/small/a-Q4_K.gguf")
    done = ask("flops", "hf:org/small/a-Q4_K.gguf")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "is a file of weights and not a spec; `archcalc params` counts its weights" in done.err


def test_all_parts_of_a_gguf_file_of_the_hub_are_read(hub, tmp_path):
    files, _ = hub
    for i, (name, one) in enumerate(BLOCKS.items()):
        keys = {"split__no": i, "split__count": 2, "split__tensors__count": 2}
        files[f"{AT}q/a-{i + 1:05}-of-00002.gguf"] = gguf(tmp_path, {name: one}, 0, **keys)
    listed(files, "q/a-00001-of-00002.gguf", "q/a-00002-of-00002.gguf")
    for name in ("hf:org/small", "hf:org/small/q/a-00002-of-00002.gguf"):
        done = ask("params", name, "-f", "json")
        assert (done.code, done.err) == (0, "")
        assert (done.json["parameters"]["stored"], done.json["stored_bytes"]) == (NUMBERS, BYTES)
    del files[f"{AT}q/a-00002-of-00002.gguf"]
    done = ask("params", "hf:org/small/q/a-00001-of-00002.gguf")
    said = "has no q/a-00002-of-00002.gguf, although q/a-00001-of-00002.gguf is one of its parts"
    assert (done.code, done.err) == (3, f"hf:org/small: {said}\n")


def test_gguf_files_of_the_hub_are_held_against_a_spec(hub, tmp_path):
    files, _ = hub
    files[f"{AT}a.gguf"] = gguf(tmp_path, {**BLOCKS, "more": ((3,), "F32")}, 0)
    listed(files, "a.gguf")
    for name in ("hf:org/small", "hf:org/small/a.gguf"):
        done = ask("check", "tiny", "--weights", name)
        assert done.code == 1
        assert "UNEXPECTED" in done.out


def test_a_file_of_safetensors_on_the_hub_is_counted_though_there_is_a_config(hub):
    files, _ = hub
    published(files)
    done = ask("params", "hf:org/small/model.safetensors", "-f", "json")
    assert done.json["formats"][0]["format"] == "F32"
    assert done.json["parameters"]["stored"] == sum(map(size, TENSORS.values())) // 4


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"GGML" + bytes(100), "is not a GGUF file"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 16, "has more than 100,000 tensors"),
        (b"GGUF\x03\0\0\0" + (5).to_bytes(8, "little") + bytes(8), "is not a complete GGUF file"),
    ],
)
def test_a_damaged_gguf_header_is_told_by_the_name_that_was_typed(hub, start, said):
    files, _ = hub
    files[f"{AT}a.gguf"] = start, 0
    done = ask("params", "hf:org/small/a.gguf")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith(f"hf:org/small/a.gguf: {said}")


def test_a_gguf_header_that_never_ends_is_given_up(hub, monkeypatch):
    from archcalc.huggingface import gguf as reader

    files, asked = hub
    key = (1).to_bytes(8, "little") + b"k" + (9).to_bytes(4, "little")
    texts = key + (8).to_bytes(4, "little") + (2_900_000).to_bytes(8, "little")
    files[f"{AT}a.gguf"] = b"GGUF\x03\0\0\0" + bytes(8) + (1).to_bytes(8, "little") + texts + bytes(2**24), 2**40
    monkeypatch.setattr(reader, "LARGEST_HEADER", 2**22)
    done = ask("params", "hf:org/small/a.gguf")
    assert (done.code, done.err) == (2, "hf:org/small/a.gguf: has a header larger than 4,194,304 bytes\n")
    assert len(asked) < 10
