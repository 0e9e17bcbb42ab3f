"""The credit check once more, as a quorum: two of three bureaus decide."""
