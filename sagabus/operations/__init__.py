"""What people do to sagas that run: end one, have one merged, and see on one trail who did what."""
