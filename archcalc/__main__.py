"""`python -m archcalc`, for a Python whose scripts are on no path."""

from archcalc.cli import main

if __name__ == "__main__":
    main()
