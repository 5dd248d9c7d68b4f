"""Parallel plans: how a model and the work of a step are divided over devices."""
