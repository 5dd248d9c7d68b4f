"""Words: vectors of tokens, and probabilities."""
