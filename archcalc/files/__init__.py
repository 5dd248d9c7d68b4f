"""Files: bounded readers, and writers that leave nothing half written."""
