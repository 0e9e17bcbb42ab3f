"""The pages of the dashboard, a module each: what it looks up, and the routes under which it is shown."""
