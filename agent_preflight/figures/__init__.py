"""Every figure that a view shows, computed from a run's record. Pure: no files, no clock, no network."""
