"""A gallery of broken sagas: a module is one classic fault, and beside it the same saga done right."""
