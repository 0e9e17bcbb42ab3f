"""A bank moves money between accounts under rules, while one of its workers is killed every second."""
