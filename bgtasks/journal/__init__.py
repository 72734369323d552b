"""The journal: the thread that writes the rows of this process, and the SQL that it sends."""
