"""
The proof on real input: `python -m bgtasks_project.smoke`.

Starts the demo server, a mail receiver and a webhook receiver as processes of their own, sends real requests, stops the
server while tasks run, and compares what the receivers wrote down with the rows.
"""
