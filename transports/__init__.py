"""Brokers that a bus can speak through, found by the scheme of their URL."""
