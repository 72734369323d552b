"""What carries tasks out and records them in one process."""
