"""DICOM in: files found, headers read, slices grouped and ordered by geometry, pixels decoded."""
