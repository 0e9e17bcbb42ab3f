"""Servers that answer as a test says."""

from tests.scripted import connect, pair, serve

__all__ = ["connect", "pair", "serve"]
