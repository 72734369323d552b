"""Wrong options of the commands, run in the test's process. tests/acceptance has the other tests of commands."""

from __future__ import annotations

import pytest
from django.core.management import execute_from_command_line

MISUSE = 2  # Exit code.


def read_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must be refused; return its output on stderr."""
    with pytest.raises(SystemExit) as ended:
        execute_from_command_line(["manage.py", *arguments])
    assert ended.value.code == MISUSE
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("drain_tasks --timeout -1", "not a number of seconds"),
        ("drain_tasks --timeout soon", "not a number of seconds"),
        ("drain_tasks --process 5", "invalid UUID value"),
        ("drain_tasks --format xml", "invalid choice"),
        ("drain_tasks --cancel", "unrecognized arguments"),
        ("run_tasks --max-running 0", "not a whole number, 1 or more"),
        ("run_tasks --queue", "expected one"),
        ("stuck_tasks --older-than x", "not a number of seconds"),
        ("audit_tasks --wait x", "not a number of seconds"),
        ("audit_tasks --since 60 --deaths", "not allowed with"),
        ("prune_tasks --all", "unrecognized"),
        ("top_tasks --interval 0", "not a number of seconds from 0.1 to 3600"),
        ("top_tasks --interval nan", "not a number of seconds"),
        ("top_tasks --interval soon", "not a number of seconds"),
        ("top_tasks --limit 0", "not a whole number, 1 or more"),
        ("top_tasks --format xml", "invalid choice"),
        ("top_tasks --watch", "unrecognized arguments"),
    ],
)
def test_an_option_is_refused(capsys: pytest.CaptureFixture[str], arguments: str, message: str) -> None:
    assert message in read_error(capsys, *arguments.split())


@pytest.mark.django_db(transaction=True)
def test_a_process_that_does_not_run_cannot_drain(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = "01890000-0000-7000-8000-000000000000"

    assert "No such process is running" in read_error(capsys, "drain_tasks", "--process", unknown)
