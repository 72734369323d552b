"""The demo project: a small real service that uses bgtasks."""
