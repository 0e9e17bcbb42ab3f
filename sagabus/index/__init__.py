"""The index: sagas by class, lifecycle, age and siblings, without reading every record."""
