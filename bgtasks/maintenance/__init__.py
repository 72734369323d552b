"""Services that get their turn on the journal's thread, one per file."""
