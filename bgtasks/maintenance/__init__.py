"""The maintenance services: each has a file of its own, and gets its turn on the journal's thread."""
