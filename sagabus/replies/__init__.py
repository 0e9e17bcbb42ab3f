"""How code that is no endpoint sends from an event loop, and gets answers: one reply queue a process."""
