"""Leases: one holder at a time in the whole cluster, and a token that proves to what it writes that it still holds."""
