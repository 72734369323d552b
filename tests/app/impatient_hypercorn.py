"""A configuration of Hypercorn, which has no flag for this limit."""

shutdown_timeout = 1.0
