"""One piece at a time, without servers or processes."""
