"""The commands, in modules that bear their names or that of their kind."""
