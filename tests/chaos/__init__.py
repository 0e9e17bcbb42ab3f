"""Processes killed and stopped while they work."""
