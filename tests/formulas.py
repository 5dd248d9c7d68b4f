"""Formulas as they are printed, worked out."""

import math
import re
from fractions import Fraction


def evaluate(text, values):
    """A formula as it is printed, worked out: letters side by side are multiplied."""
    text = text.replace("'", "_")  # F' of the second block that has an F
    values = {name.replace("'", "_"): value for name, value in values.items()}
    tokens = re.findall(r"floor|ceil|gcd|[A-Za-z]+_*\d*|\d+|[-+/^(),]", text)
    python, operand = "", False
    for word in tokens:
        begins = word[0].isalnum() or word == "("
        if operand and begins:
            python += "*"
        if word == "^":
            python += "**"
        elif word.isdigit():
            python += word if python.endswith("**") else f"Fraction({word})"
        else:
            python += word
        operand = word not in ("floor", "ceil", "gcd") and (word[0].isalnum() or word == ")")
    return eval(python, {"Fraction": Fraction, "floor": math.floor, "ceil": math.ceil, "gcd": math.gcd, **values})  # noqa: S307  (our own output)
