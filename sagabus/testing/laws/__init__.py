"""The laws that a merger must keep, the states to try them on, and `check_merger`, which tries to refute them."""
