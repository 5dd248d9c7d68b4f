"""`python -m archcalc_reference.train`, or `torchrun ... -m archcalc_reference.train`: training under a plan."""

import sys

from archcalc_reference.parallel.command import main

if __name__ == "__main__":
    sys.exit(main())
