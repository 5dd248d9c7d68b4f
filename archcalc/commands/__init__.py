"""The commands, a module for each panel of the help."""
