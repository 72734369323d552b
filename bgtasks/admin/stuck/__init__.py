"""The page of stuck tasks and its actions."""
