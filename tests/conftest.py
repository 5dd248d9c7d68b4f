"""One fixed hypothesis profile gates; a random one searches further (`make fuzz` prints its seed)."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("fixed", derandomize=True, max_examples=100, deadline=None, database=None)
settings.register_profile(
    "random", max_examples=2_000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
