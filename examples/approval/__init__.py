"""A purchase that waits for people: a reminder, an escalation, an approval; in two seconds instead of days."""
