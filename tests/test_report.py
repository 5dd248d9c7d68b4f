"""The report is one screen: at most 100 columns and 45 lines, and exactly this at 80 and at 100."""

import pytest
from command import ask, spawn

import archcalc
from archcalc.catalogue import find, names
from archcalc.report.overview import report_sheet
from archcalc.report.render import render

TALLY = """\
category              one matrix    matrices       parameters    running total
---------------  ---------------  ----------  ---------------  ---------------
embedding        12,288 x 50,257           1      617,558,016      617,558,016
key                 128 x 12,288       9,216   14,495,514,624   15,113,072,640
query               128 x 12,288       9,216   14,495,514,624   29,608,587,264
value               128 x 12,288       9,216   14,495,514,624   44,104,101,888
output           12,288 x 12,288          96   14,495,514,624   58,599,616,512
up_projection    49,152 x 12,288          96   57,982,058,496  116,581,675,008
down_projection  12,288 x 49,152          96   57,982,058,496  174,563,733,504
unembedding      50,257 x 12,288           1      617,558,016  175,181,291,520
---------------  ---------------  ----------  ---------------  ---------------
together                              27,938  175,181,291,520
"""

AT_100 = f"""\
gpt3-175b: 174,604,259,328 parameters (174.6B)

Shape      96 layers: 96 heads of 128 + biases; d_ff 49,152 (gelu_tanh) + biases; layernorm + biases
           d_model 12,288, vocabulary 50,257, context 2,048, learned positions, final layernorm +
           biases, tied unembedding
Source     Brown et al. 2020, arXiv:2005.14165, Table 2.1

{TALLY}
Stored     175,181,291,520 tallied - 617,558,016 tied unembedding + 25,165,824 positions +
           10,616,832 biases + 4,743,168 norms = 174,604,259,328
Printed    174,600M: holds to 4 digits (Brown et al. 2020, Table D.1)
           174,604,259,328: holds digit for digit (transformers 5.23, GPT2LMHeadModel)
           175.0B: nominal, counted -0.23% (-395,740,672) (Brown et al. 2020, Table 2.1)
           tally 175,181,291,520: holds digit for digit (3Blue1Brown, But what is a GPT?, 2024)
           matrices 27,938: holds digit for digit (3Blue1Brown, But what is a GPT?, 2024)
FLOPs      734,804,261,732,352 forward, 1,469,608,523,464,704 backward, 2,048 tokens
           1.076T a token = 6 N (1.048T) - 151.0M positions - 28.46M norms - 63.70M biases + 28.99B
           attention
           math attention, all pairs of positions; memory: flash attention
Memory     training 2.543 TiB at the peak, 2.541 TiB of it state (mixed-16)
           inference 334.7 GiB in bf16: weights 325.2 GiB, cache 4.500 MiB a token
Devices    at least 33 h100-sxm to train, 5 to serve; or 14 and 2 mi300x
Assumed    attention is counted dense in every layer; the paper alternates dense and locally banded
           sparse layers, which have the same weights
           GPT-2's architecture where the paper prints nothing else: biases, LayerNorm, learned
           positions, tied unembedding, 50,257 tokens
"""

AT_80 = f"""\
gpt3-175b: 174,604,259,328 parameters (174.6B)

Shape      96 layers: 96 heads of 128 + biases; d_ff 49,152 (gelu_tanh) +
           biases; layernorm + biases
           d_model 12,288, vocabulary 50,257, context 2,048, learned positions,
           final layernorm + biases, tied unembedding
Source     Brown et al. 2020, arXiv:2005.14165, Table 2.1

{TALLY}
Stored     175,181,291,520 tallied - 617,558,016 tied unembedding + 25,165,824
           positions + 10,616,832 biases + 4,743,168 norms = 174,604,259,328
Printed    174,600M: holds to 4 digits (Brown et al. 2020, Table D.1)
           174,604,259,328: holds digit for digit (transformers 5.23,
           GPT2LMHeadModel)
           175.0B: nominal, counted -0.23% (-395,740,672) (Brown et al. 2020,
           Table 2.1)
           tally 175,181,291,520: holds digit for digit (3Blue1Brown, But what
           is a GPT?, 2024)
           matrices 27,938: holds digit for digit (3Blue1Brown, But what is a
           GPT?, 2024)
FLOPs      734,804,261,732,352 forward, 1,469,608,523,464,704 backward, 2,048
           tokens
           1.076T a token = 6 N (1.048T) - 151.0M positions - 28.46M norms -
           63.70M biases + 28.99B attention
           math attention, all pairs of positions; memory: flash attention
Memory     training 2.543 TiB at the peak, 2.541 TiB of it state (mixed-16)
           inference 334.7 GiB in bf16: weights 325.2 GiB, cache 4.500 MiB a
           token
Devices    at least 33 h100-sxm to train, 5 to serve; or 14 and 2 mi300x
Assumed    attention is counted dense in every layer; the paper alternates dense
           and locally banded sparse layers, which have the same weights
           GPT-2's architecture where the paper prints nothing else: biases,
           LayerNorm, learned positions, tied unembedding, 50,257 tokens
"""


@pytest.mark.parametrize(("width", "golden"), [(100, AT_100), (80, AT_80)])
def test_the_report_of_gpt3_is_exactly_this(width, golden):
    assert render(report_sheet(find("gpt3-175b")), "table", width) == golden


def test_a_pipe_is_100_wide_and_columns_is_obeyed():
    assert ask("report", "gpt3-175b").out == AT_100
    assert spawn("report", "gpt3-175b", env={"COLUMNS": "80"}).out == AT_80
    assert spawn("report", "gpt3-175b", env={"COLUMNS": "20"}).out == AT_80
    assert spawn("report", "gpt3-175b", env={"COLUMNS": "500"}).out == AT_100


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", names())
def test_every_report_is_one_screen(name, width):
    lines = render(report_sheet(find(name)), "table", width).splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= width


def test_the_source_is_shown_once():
    assert ask("report", "tiny").out.count(archcalc.load("tiny").source[:30]) == 1


def test_the_report_s_json_has_the_flops_of_one_context():
    payload = ask("report", "gpt3-175b", "-f", "json").json
    assert payload["flops"]["training"] == 3 * 734_804_261_732_352
    assert payload["conventions"]["causal"] == "full"
    assert payload["conventions"]["stored"]
    assert payload["shape"]["layers"][0]["attention"]["n_heads"] == 96
