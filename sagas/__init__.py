"""Ready-made sagas, each written on the kernel's public API alone."""
