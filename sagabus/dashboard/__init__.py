"""The dashboard: pages that show sagas, their versions and what became of them; an extra, `sagabus[dashboard]`."""
