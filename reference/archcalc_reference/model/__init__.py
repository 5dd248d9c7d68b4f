"""The model: modules built from a spec, and how they run."""
