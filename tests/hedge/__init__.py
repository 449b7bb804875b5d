"""Tests of inference-time hedging."""
