"""Messages that wait for their time: which they are, and how a person cancels one, or sends it now."""
