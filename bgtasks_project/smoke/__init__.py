"""
The proof on real input: `python -m bgtasks_project.smoke`.

Starts the demo server, a mail receiver and a webhook receiver as processes of their own, sends real requests, stops the
server while tasks run, and compares the logs of the receivers with the rows.
"""
