"""New projects and new sagas: templates, and how they become files."""
