"""The rows: one module each, `rowNN_words.py`, found by number."""
