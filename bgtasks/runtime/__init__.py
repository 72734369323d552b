"""The runtime: carries out the tasks of one process, from `fire` to their outcomes."""
