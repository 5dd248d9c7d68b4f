"""The page of the film's demonstrations: what its commands print, its figures, and its Chinese sister."""

import re

import pytest
from docblocks import FILM, ROOT, alike, blocks, films, run, workplace

PAGE, CHINESE = FILM
DRAWN = re.compile(
    r"archcalc (generate|chat) "
)  # what chance draws, or a near tie decides, may be another text elsewhere
# Of the same data, measured with numpy, and with transformers on the same dequantized weights.
FIGURES = {
    "' land'          1,666  14.7173         13.30%": "the first token after the film's prompt",
    "10.52%": "the second",
    "13 tokens of 50 bytes": "GPT-2's tokens of it",
    "token         1.0000     1.0000": "model at the token",
    "175,181,291,520": "the tally",
    "27,938": "the matrices",
    "towers        0.8771": "tower",
    "gate          0.7934": "tower",
    "queen       0.8610": "queen",
    "king        0.8860": "king before it",
    "japan - germany         0.4090   0.03190": "the control",
    "mussolini    0.8471": "Italy and Germany",
    "44             45  sausage": "sushi",
    "106            107  bratwurst": "sushi",
    "13             14  monster": "cat",
    "15             16  beast": "cat",
    "one            -2.400": "plural",
    "two            0.7914": "plural",
    "three           1.268": "plural",
    "four            1.492": "plural",
    "five            1.752": "plural",
    "one < two < three < four < five < six": "plural, in SmolLM2's table",
    "' queen'       0.7158": "queen, in SmolLM2's table",
    "' Sn'     11,501   5.5706         10.51%": "Snape's first token",
}


def test_the_page_has_the_figures():
    text = (ROOT / PAGE).read_text()
    assert [figure for figure in FIGURES if figure not in text] == []


def test_the_chinese_page_shows_the_same():
    assert blocks(CHINESE) == blocks(PAGE)
    headings = [re.findall(r"^#+ ", (ROOT / page).read_text(), re.MULTILINE) for page in FILM]
    assert headings[0] == headings[1]


def test_the_walk_has_every_command_of_the_page():
    text = (ROOT / PAGE).read_text()
    found = list(films().parts(text))
    assert [said for kind, said in found if kind == "command"] == [block.command for block in blocks(PAGE)]
    assert all("```" not in said for _, said in found)


@pytest.mark.film
@pytest.mark.parametrize("block", blocks(PAGE), ids=lambda block: block.command[:60])
def test_a_command_prints_what_the_page_shows(block):
    if absent := films().missing():
        pytest.skip(f"not installed: {', '.join(absent)}; `make film` installs them")
    for extra in ("torch", "safetensors", "tokenizers", "gguf", "pyarrow"):
        pytest.importorskip(extra)
    with workplace(film=True):
        answer = run(block.command)
    assert answer.code == 0, answer.err
    if DRAWN.search(block.command):
        assert len(answer.out) > 20
    else:
        assert alike(block.shown, answer.out) is None
