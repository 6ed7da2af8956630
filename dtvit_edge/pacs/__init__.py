"""What comes in from a PACS and what goes back to one: DICOM SR and key images, and the service at the bedside."""
