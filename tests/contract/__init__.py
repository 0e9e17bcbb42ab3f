"""The suites that every store and every transport inherits, run for real."""
