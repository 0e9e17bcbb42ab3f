"""Loans on the web: sagas started and asked from FastAPI and Django, and from the transaction of a request."""
