"""Targets of guided fuzzing: each takes any bytes, and raises only what it should not."""
