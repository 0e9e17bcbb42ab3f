"""For the people who run it: logs, and what is bound to them."""
