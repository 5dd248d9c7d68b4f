"""The fixed hypothesis profile gates; `prove` tries more of it, and a random one searches further (`make fuzz` prints
its seed).
"""

import gc
import os

from examples import PROFILE
from hypothesis import HealthCheck, Phase, settings

# Models here are tiny: a second thread costs more than it brings, and `make test` uses the cores by processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["ARCHCALC_NO_CACHE"] = "1"  # whoever tests the cache makes one of its own
# A terminal's size is none of a test's business; pytest-xdist tells its processes one.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

settings.register_profile("fixed", derandomize=True, max_examples=20, deadline=None, database=None)
settings.register_profile("prove", settings.get_profile("fixed"), max_examples=300)
# A fault that is put in on purpose need not be shrunk to its smallest example.
settings.register_profile(
    "faults", settings.get_profile("fixed"), max_examples=50, phases=(Phase.explicit, Phase.generate)
)
settings.register_profile(
    "random", max_examples=2_000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(PROFILE)


def pytest_collection_finish():
    """What is there once the tests are collected stays: not to look at it again and again saves a twelfth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
