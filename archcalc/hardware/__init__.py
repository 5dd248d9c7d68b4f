"""Hardware: devices, what fits on them, and how long a run takes."""
