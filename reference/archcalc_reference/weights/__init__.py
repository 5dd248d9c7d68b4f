"""Weights: folders of tensors, their names and layouts."""
