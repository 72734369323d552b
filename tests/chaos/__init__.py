"""
The chaos harness: servers, requests, random disasters, and a verdict from marks outside the database.

`python -m tests.chaos --help` lists its options; docs/reliability.md describes the harness and its results.
"""
