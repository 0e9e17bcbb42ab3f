"""The soak: hours at full speed with workers and the store killed, and an outside judge. `make soak MINUTES=60`."""
