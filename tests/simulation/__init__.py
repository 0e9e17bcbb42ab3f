"""Schedules that a machine explores."""
