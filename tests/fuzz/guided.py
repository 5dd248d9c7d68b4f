"""Damage that is guided by what it reaches: `python tests/fuzz/guided.py KIND [INPUTS] [SEED]`, with atheris.

atheris (PyPI, Linux and macOS) keeps an input that ran through new code and damages it further; half of the damage is
its own, of bytes, and half is what the campaign does. What breaks the contract is written to `fuzzed/` and ends it.
"""

import contextlib
import os
import random
import sys
import tempfile
from pathlib import Path

sys.path.append(os.fspath(Path(__file__).parents[1]))  # what the tests share; they find it by pytest

INPUTS = 100_000
LARGEST = 2**16
"""Bytes of an input: what is long is the campaign's."""
SECONDS = 3
"""Code that tells where it was is slower."""


def main(arguments):
    try:
        import atheris
    except ImportError:
        print("guided.py needs the package atheris: pip install atheris", file=sys.stderr)
        return 3
    from mutations import mutated
    from readers import READERS, ROOT

    kind, inputs, seed = (*arguments, *("spec", INPUTS, 1)[len(arguments) :])[:3]
    if kind not in READERS:
        print(f"guided.py: no kind {kind!r}; there are {', '.join(READERS)}", file=sys.stderr)
        return 2
    reader, folder, corpus = READERS[kind], Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    with atheris.instrument_imports(include=["archcalc"]):
        import contract
        from campaign import KEPT, kept, told

        from archcalc.errors import ArchcalcError

        seeds = reader.seeds(folder)
        for i, good in enumerate(seeds):  # whatever is imported late is imported here, which takes its time
            (corpus / f"{i}").write_bytes(good)
            with contextlib.suppress(ArchcalcError):
                reader.use(reader.read(reader.place(folder, good)), i < 3)
    contract.SECONDS = SECONDS

    def each(data):
        try:
            contract.is_accepted(reader, folder, data)
        except (Exception, contract.TooSlow) as error:
            wrong = told(error)
            print(f"FOUND {wrong}\n  {kept(kind, data, wrong)}", flush=True)
            raise

    def damage(data, most, number):
        rng = random.Random(number)  # noqa: S311
        try:
            found = mutated(rng, reader.form, data, seeds) if number % 2 else atheris.Mutate(data, most)
        except Exception:  # noqa: BLE001  (what is no file of that form has no fields)
            found = atheris.Mutate(data, most)
        return found[:most]

    contract.watch(folder, ROOT, sys.prefix, sys.base_prefix, KEPT)
    options = [
        f"-runs={inputs}",
        f"-seed={seed}",
        f"-max_len={LARGEST}",
        "-rss_limit_mb=0",
        "-timeout=60",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], os.fspath(corpus), *options], each, custom_mutator=damage)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
