"""Reports: read-only questions about the rows, for the admin, the management commands and the services."""
