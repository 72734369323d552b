"""The Django project that the harness serves."""
