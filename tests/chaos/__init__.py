"""
The chaos harness: real servers, real requests, random disasters, and a verdict from marks outside the database.

`python -m tests.chaos --help` says how to run it; docs/reliability.md says what it does and what it found.
"""
