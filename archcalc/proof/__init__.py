"""Proof: the witnesses, which need PyTorch."""
