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
    "13.30%": "the first token after the film's prompt",
    "10.52%": "the second",
    "13 tokens of 50 bytes": "GPT-2's tokens of it",
    "token         1.0000     1.0000": "model at the token",
    "175,181,291,520": "the tally",
    "27,938": "the matrices",
    "towers        0.877": "tower",
    "gate          0.793": "tower",
    "queen       0.8610": "queen",
    "king        0.8860": "king before it",
    "0.03190": "the control",
    "mussolini    0.847": "Italy and Germany",
    "44             45  sausage": "sushi",
    "106            107  bratwurst": "sushi",
    "13             14  monster": "cat",
    "15             16  beast": "cat",
    "one            -2.40": "plural",
    "two            0.79": "plural",
    "four            1.49": "plural",
    "five            1.75": "plural",
    "one < two < three < four < five < six": "plural, in SmolLM2's table",
    "1.561%": "Macbeth after Scotland, by transformers: 1.560561",
    "15.77%": "Lear after his daughters, by transformers: 15.767136",
    "10.51%": "Snape's first token, by transformers and by llama.cpp",
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
        prompt = re.search(r'--prompt "([^"]*)"', block.command)
        speakers = [
            [line.partition(":")[0] for line in text.splitlines() if re.match("(User|Assistant): .", line)]
            for text in (block.shown, answer.out)
        ]
        assert prompt is None or answer.out.count(prompt[1]) == block.shown.count(prompt[1]) >= 1
        assert speakers[0] == speakers[1]
    else:
        assert alike(block.shown, answer.out) is None
