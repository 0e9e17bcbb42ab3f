"""What the faults happen to: sagas of three kinds, worker processes, and a driver that sends and waits."""
