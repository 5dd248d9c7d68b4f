"""The JSON Schemas in specs/schema, each in two drafts. `python tests/schemas.py` writes them anew."""

import sys
from collections.abc import Iterator
from pathlib import Path

from archcalc.commands.schema import KINDS, described
from archcalc.spec.catalogue import specs_folder

FOLDER = Path(specs_folder()) / "schema"


def written() -> Iterator[tuple[Path, str]]:
    """Each file and what belongs in it: the newer draft, and draft 07, which the specs name for editors."""
    for kind in KINDS:
        yield FOLDER / f"{kind}.json", described(kind)
        yield FOLDER / "draft-07" / f"{kind}.json", described(kind, "07")


if __name__ == "__main__":
    for path, text in written():
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(path, file=sys.stderr)
