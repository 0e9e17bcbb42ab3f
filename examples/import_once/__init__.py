"""Import a file once, though it is announced twenty times at once and workers are killed while they import."""
