"""Secrets: values that are written encrypted, messages that are signed, and the keys of both."""
