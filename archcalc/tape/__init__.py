"""The tape: a forward pass over named dimensions, and what can be said of it without a spec."""
