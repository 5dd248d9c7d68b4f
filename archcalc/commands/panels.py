"""What `archcalc --help` lists: each command in one line, under its panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperGroup, TyperOption

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter


PANELS = ("Count", "Choose", "Trust", "Run", "Files")


def _place(panel: str) -> int:
    """Where a panel stands, whichever of its commands was loaded first."""
    return PANELS.index(panel) if panel in PANELS else len(PANELS)


class Commands(TyperGroup):
    """The group of all commands. Its help is plain text, which fits a screen and needs no rich."""

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write one of typer's two options for completion, the one that most people want."""
        for option in self.params:
            if option.name == "show_completion" and isinstance(option, TyperOption):
                option.hidden = True
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002  (typer's signature)
        """Write the panels in their order, each command with the first line of its docstring."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            panel = getattr(command, "rich_help_panel", None) or "Commands"
            panels.setdefault(panel, []).append((name, (command.help or "").partition("\n")[0]))
        for panel, rows in sorted(panels.items(), key=lambda found: _place(found[0])):
            with formatter.section(panel):
                formatter.write_dl(rows)
