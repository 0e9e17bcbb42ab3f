"""What users write, seen by the type checkers."""
