"""What people look at: pages of a run's results, and evidence maps of the slices that a study was flagged for."""
