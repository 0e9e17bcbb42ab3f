"""What workers count and show of themselves, and how people and programs are told."""
