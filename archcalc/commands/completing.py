"""What a shell's completion offers for arguments and flags. Nothing here loads numpy or torch, or asks the network.

Each takes what was typed so far and returns whole words that begin so; files are left to the shell where there are
none. A word behind which more is to be typed is never the only one, or shells would write a space behind it.
"""

import os
from collections.abc import Callable, Iterable

from archcalc.commands.shells import typed

Completes = Callable[[str], list[str]]


def beginning(words: Iterable[str] | Callable[[], Iterable[str]]) -> Completes:
    """A completion of known words; a function is asked for them when they are wanted."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in (words() if callable(words) else words) if word.startswith(incomplete)]

    return complete


def spec_words(incomplete: str) -> list[str]:
    """The catalogue's names that begin so, and what goes on a question; of a path the files and folders."""
    if "@" in incomplete:
        from archcalc.spec.completing import going_on

        return going_on(incomplete)
    from archcalc.spec.catalogue import names

    return _or_files(beginning(names), incomplete)


def device_words(incomplete: str) -> list[str]:
    """The devices that begin so; of a path the files."""
    from archcalc.hardware.devices import device_names

    return _or_files(beginning(device_names), incomplete)


def plan_words(incomplete: str) -> list[str]:
    """The catalogue's plans that begin so; of a path the files."""
    from archcalc.plan.reading import plan_names

    return _or_files(beginning(plan_names), incomplete)


def quantity_words(incomplete: str) -> list[str]:
    """The quantities that begin so."""
    from archcalc.counts.quantities import QUANTITIES

    return beginning(QUANTITIES)(incomplete)


def column_words(incomplete: str) -> list[str]:
    """Quantities, and fields of the spec that was typed before, behind the last comma."""
    before, comma, begun = incomplete.rpartition(",")
    known = [*quantity_words(begun), *field_words(begun)]
    return [f"{before}{comma}{word}" for word in known if word not in before.split(",")]


def field_words(begun: str) -> list[str]:
    """The fields that begin so of the spec that was typed before, by their short names."""
    from archcalc.spec.completing import going_on

    spec = next((word for word in typed()[1:-1] if not word.startswith("-")), "")
    started = f"{spec}{',' if '@' in spec else '@'}" if spec else ""
    names = (word.removeprefix(started) for word in going_on(started + begun)) if started else ()
    return [name.removesuffix("=") for name in names if name.endswith("=")]


def _or_files(completes: Completes, incomplete: str) -> list[str]:
    """Known words that begin so, else files."""
    return ([] if "/" in incomplete else completes(incomplete)) or file_words(incomplete)


def file_words(incomplete: str) -> list[str]:
    """The folders, and the files that may be a spec or a config.json, whose path begins so.

    What is in a folder is told too where that is the only one.
    """
    found = _files(incomplete)
    return [*found, *_files(found[0])] if len(found) == 1 and found[0].endswith("/") else found


def _files(incomplete: str) -> list[str]:
    head, _, start = incomplete.rpartition("/")
    above = f"{head}/" if "/" in incomplete else ""
    try:
        with os.scandir(above or ".") as found:
            inside = [(one.name, one.is_dir()) for one in found if one.name.startswith(start)]
    except OSError:
        return []
    return sorted(
        f"{above}{name}" + "/" * folder
        for name, folder in inside
        if (folder or name.endswith((".yaml", ".yml", ".json"))) and (start or not name.startswith("."))
    )
