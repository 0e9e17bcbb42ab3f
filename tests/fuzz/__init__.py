"""What hostile or broken bytes may do: become a value, or the error that the documentation names; nothing else."""
