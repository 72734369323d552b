"""The pages of task functions: the list, the page of one, firing and pausing."""
