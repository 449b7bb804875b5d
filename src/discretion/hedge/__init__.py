"""Inference-time hedging: selection laws, their estimates from finite pools, and the choice of their parameter."""
