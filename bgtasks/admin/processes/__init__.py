"""The pages of processes and of their drains."""
