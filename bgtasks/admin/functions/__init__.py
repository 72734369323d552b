"""The page of task functions: firing and pausing them."""
