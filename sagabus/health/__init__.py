"""How a bus and its workers are: probes for what starts and stops processes, checks for people."""
