"""Messages that were given up: what is kept of them, how they are found, sent again, or dropped."""
