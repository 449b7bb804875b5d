"""Audit alignment discretion: how the judges of AI answers settle what the principles leave open."""

__version__ = "0.1.0"
