"""Specs: YAML to models, by a name, a path or a question."""
