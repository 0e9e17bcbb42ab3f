"""The ready-made sagas, in every order."""
