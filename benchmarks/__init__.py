"""What a credit check costs: throughput, round trips, processor time, latency. Run it: `python -m benchmarks`."""
