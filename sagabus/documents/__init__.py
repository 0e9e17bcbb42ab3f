"""Versioned documents: typed values under a key, kept as the versions of sagas are, for what is no saga."""
