"""Random schedules of the simulator, forced on real stores and real workers."""
