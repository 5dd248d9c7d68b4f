"""Published figures that the tests hold archcalc to. Nothing here was computed by archcalc."""

# Parameters of GPT2LMHeadModel of transformers 5.23 with each shape, on the meta device; test_transformers builds them
# again. The four of GPT-2 are also those of keras-hub; gpt3-xl is 16 heads of 128 and gpt3-13b is 5,120 wide.
PARAMETERS = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "gpt3-small": 125_226_240,
    "gpt3-medium": 355_871_744,
    "gpt3-large": 760_300_032,
    "gpt3-xl": 1_315_723_264,
    "gpt3-2.7b": 2_651_553_280,
    "gpt3-6.7b": 6_658_404_352,
    "gpt3-13b": 12_853_386_240,
    "gpt3-175b": 174_604_259_328,
}

# Brown et al. 2020, arXiv:2005.14165, Table 2.1: layers, d_model, heads, d_head; gpt3-xl prints 24 heads and gpt3-13b
# d_model 5140, which their specs put right. Table D.1: parameters in millions.
GPT3_TABLE_2_1 = {
    "gpt3-small": (12, 768, 12, 64),
    "gpt3-medium": (24, 1024, 16, 64),
    "gpt3-large": (24, 1536, 16, 96),
    "gpt3-xl": (24, 2048, 16, 128),
    "gpt3-2.7b": (32, 2560, 32, 80),
    "gpt3-6.7b": (32, 4096, 32, 128),
    "gpt3-13b": (40, 5120, 40, 128),
    "gpt3-175b": (96, 12288, 96, 128),
}
GPT3_TABLE_D_1_MILLIONS = {
    "gpt3-small": 125,
    "gpt3-medium": 356,
    "gpt3-large": 760,
    "gpt3-xl": 1_320,
    "gpt3-2.7b": 2_650,
    "gpt3-6.7b": 6_660,
    "gpt3-13b": 12_850,
    "gpt3-175b": 174_600,
}

# 3Blue1Brown, But what is a GPT?, 2024; videos/_2024/transformers/ml_basics.py, ShowGPT3Numbers: category, rows and
# columns of one matrix, matrices, parameters.
FILM_TALLY = [
    ("embedding", 12_288, 50_257, 1, 617_558_016),
    ("key", 128, 12_288, 9_216, 14_495_514_624),
    ("query", 128, 12_288, 9_216, 14_495_514_624),
    ("value", 128, 12_288, 9_216, 14_495_514_624),
    ("output", 12_288, 12_288, 96, 14_495_514_624),
    ("up_projection", 49_152, 12_288, 96, 57_982_058_496),
    ("down_projection", 12_288, 49_152, 96, 57_982_058_496),
    ("unembedding", 50_257, 12_288, 1, 617_558_016),
]
FILM_TOTAL = 175_181_291_520
FILM_MATRICES = 27_938
