"""A distributed lock that also holds against a holder who was asleep: a lease with a fence."""
