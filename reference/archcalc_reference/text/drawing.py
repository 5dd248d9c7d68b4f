"""The sampling settings of a folder: the tokens that end a text, and generation_config.json.

transformers reads generation_config.json, and config.json only where that is not there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from archcalc.errors import Invalid, Problem, shown
from archcalc_reference.files import CONFIG, read_object
from archcalc_reference.unpacking import names_beside

if TYPE_CHECKING:
    from archcalc_reference.model.sampling import Sampling

GENERATION = "generation_config.json"

_FOLLOWED = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")  # each is a flag too

# What would change the tokens that transformers draws, with the values that change nothing. None changes nothing.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("encoder_repetition_penalty", "typical_p", "guidance_scale"), (1,)),
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_length", "min_new_tokens"), (0,)),
    **dict.fromkeys(("epsilon_cutoff", "eta_cutoff", "penalty_alpha", "diversity_penalty"), (0,)),
    **dict.fromkeys(("num_beams", "num_beam_groups"), (1,)),
    **dict.fromkeys(("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "force_words_ids"), ([],)),
    **dict.fromkeys(("constraints", "sequence_bias", "stop_strings"), ([], {})),
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty"), ()),
    **dict.fromkeys(("top_h", "watermarking_config", "dola_layers"), ()),
}


def read_settings(folder: str) -> tuple[str, dict[str, Any]]:
    """The file that says how tokens are drawn, and what it holds; of several that transformers would read."""
    there = names_beside(folder)
    path = os.path.join(folder, GENERATION if GENERATION in there else CONFIG)
    return path, read_object(path) if os.path.basename(path) in there else {}


def ends_of(folder: str) -> frozenset[int]:
    """The ids that end a text. Raises Invalid for anything but an id or a list of ids."""
    path, told = read_settings(folder)
    value = told.get("eos_token_id")
    ids = value if isinstance(value, list) else [] if value is None else [value]
    for one in ids:
        if not isinstance(one, int) or isinstance(one, bool):
            raise Invalid(
                Problem(path, "must be the id of a token, or a list of ids", "eos_token_id", value=shown(one))
            )
    return frozenset(ids)


def not_taken(folder: str, sampling: Sampling) -> str | None:
    """A line about the settings of a folder that this drawing does not follow; None where there are none.

    They are not taken by themselves: what is drawn is what the flags say.
    """
    path, told = read_settings(folder)
    greedy = told.get("do_sample") is False
    taken = sampling._asdict()
    # The most likely token is taken whatever is said of the others, and after the penalty alone.
    bearing = ("repetition_penalty",) if greedy or sampling.temperature == 0 else _FOLLOWED
    asked = ["--temperature 0"] if greedy and sampling.temperature != 0 else []
    asked += [f"--{key.replace('_', '-')} {told[key]}" for key in bearing if _differs(told.get(key), taken[key])]
    lacking = [
        f"{key} {shown(told[key])}"
        for key, neutral in _UNSUPPORTED.items()
        if told.get(key) is not None and told[key] is not False and told[key] not in neutral
    ]
    said = [f"its settings are {' '.join(asked)}, which are not applied by default"] if asked else []
    said += [f"{', '.join(lacking)}: not supported yet"] if lacking else []
    return f"{path}: {'; '.join(said)}" if said else None


def _differs(said: Any, taken: float) -> bool:
    """Whether a setting of the file draws otherwise than what is taken, where `said` is a number."""
    return isinstance(said, int | float) and not isinstance(said, bool) and said != taken
