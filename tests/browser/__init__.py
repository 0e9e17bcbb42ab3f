"""The dashboard in a browser: headless Chromium clicks through every page of a live run."""
