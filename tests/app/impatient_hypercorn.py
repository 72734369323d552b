"""A configuration of Hypercorn: there is no flag for this limit."""

shutdown_timeout = 1.0
