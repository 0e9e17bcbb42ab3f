"""Runnable stories, one a folder."""
