"""The credit check as users of other tools would write it, beside ours, on one server and one machine."""
