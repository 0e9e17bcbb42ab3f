"""What many replies to one saga cost, merged, run again, or one at a time. Run it: `make compare-concurrency`."""
