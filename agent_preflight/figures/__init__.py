"""Every figure that a face shows, computed from a run's record. Pure: no files, no clock, no network."""
