"""The list of all tasks, the page of one task, and the actions on both."""
