"""Processes other than an ASGI server with a lifespan: Daphne, `run_tasks`, and the victim of a kill test."""
