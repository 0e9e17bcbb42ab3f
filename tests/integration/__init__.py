"""Pieces together, with servers and worker processes."""
