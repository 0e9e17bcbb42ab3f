"""What a worker does with a batch: sort it, run sagas and consumers, recover from failures, dispatch."""
