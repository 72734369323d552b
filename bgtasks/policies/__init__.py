"""What a task's options decide while it runs: another attempt, the end of its time."""
