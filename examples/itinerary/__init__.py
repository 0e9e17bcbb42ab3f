"""A travel agency books a flight, a hotel and a car for each trip; when one cannot be had, the others are undone."""
