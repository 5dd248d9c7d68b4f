"""stub until the rules land"""

from __future__ import annotations

from typing import Any


def findings(found: Any, aim: Any, select: Any, ignore: Any) -> list[Any]:
    return []


def excused(found: Any, told: list[Any]) -> Any:
    return told, []
