"""The overview page and its cards."""
