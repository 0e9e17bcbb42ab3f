"""`sagabus dev`: an app that runs while it is written."""
