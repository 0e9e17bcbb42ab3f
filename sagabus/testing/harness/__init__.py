"""`SagaHarness`: one saga class in a plain unit test, by hand, with forks on purpose."""
