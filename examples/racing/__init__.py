"""What the examples share: worker processes that race and are killed, a roll call, and tidying up."""
