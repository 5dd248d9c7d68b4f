"""The formats that `check` writes, by name."""

from __future__ import annotations

from typing import Literal

ReportFormat = Literal["sarif", "code-scanning", "junit", "github", "gitlab", "summary"]
"""What other tools read."""

CheckFormat = Literal[
    "table",
    "markdown",
    "json",
    "csv",
    "sarif",
    "code-scanning",
    "junit",
    "github",
    "gitlab",
    "summary",
]
"""These, and those of every command."""
