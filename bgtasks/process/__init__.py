"""The state of this process: its identity, its live tasks, its connections. No database, no event loop."""
