"""Processes without a lifespan from an ASGI server: Daphne, `run_tasks`, and the process of a kill test."""
