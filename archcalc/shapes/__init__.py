"""Shapes: grids of sizes as arrays through the same functions."""
