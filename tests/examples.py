"""How many examples a property is tried with: few in `make test`, ten times as many in `make prove`."""

import os

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "fixed")


def few(count):
    """Examples of a property that takes its time with each of them, because it runs models."""
    return count * 10 if PROFILE == "prove" else count
