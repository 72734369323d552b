"""`bgtasks.testing.killed`, with processes on the test's database, and `assert_accounted`."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from django.test import override_settings

import bgtasks
from bgtasks.models import BackgroundTask, Ledger, Process
from bgtasks.testing import assert_accounted, killed, live
from tests.app import tasks
from tests.waiting import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("fresh_runtime")]


@bgtasks.task
async def declared_in_a_test(path: str) -> None:
    """Another process finds this function by importing the module."""
    Path(path).touch()
    time.sleep(60)  # SIGKILL ends even a blocked loop.


@bgtasks.task
async def fire_and_sleep() -> None:
    bgtasks.fire(tasks.sleep, 60)
    await asyncio.sleep(60)


def test_it_gets_its_verdict_at_once():
    with killed(tasks.sleep, 60) as victim:
        os.kill(victim.pid, 0)
        assert victim.row.status == bgtasks.Status.RUNNING

    with pytest.raises(ProcessLookupError):
        os.kill(victim.pid, 0)
    assert victim.row.status == bgtasks.Status.LOST
    process = Process.objects.get()
    assert (process.pid, process.state, process.died_with) == (victim.pid, "DEAD", {"tests.app.tasks.sleep": 1})
    assert_accounted()


def test_a_rerun_runs_again_and_no_more_often_than_it_may():
    for attempt in (1, 2, 3):
        with killed(tasks.sleep_and_rerun, 60) as victim:
            pass
        assert (victim.row.status, victim.row.attempt) == (bgtasks.Status.READY, 1), attempt
    assert BackgroundTask.objects.filter(status="READY").count() == 3
    assert_accounted()


def test_a_function_that_blocks_its_loop(tmp_path: Path):
    path = tmp_path / "begun"
    with killed(declared_in_a_test, str(path)) as victim:
        wait_for(path.exists, "the task has begun")

    assert victim.row.status == bgtasks.Status.LOST


def test_a_task_that_is_over_before_the_end_of_the_block():
    with killed(tasks.succeed) as victim:
        wait_for(BackgroundTask.objects.filter(status="SUCCESSFUL").exists, "the task has ended")

    assert victim.row.status == bgtasks.Status.SUCCESSFUL
    assert_accounted()


def test_what_else_ran_in_that_process_gets_its_verdict_too():
    with killed(fire_and_sleep):
        wait_for(lambda: BackgroundTask.objects.filter(status="RUNNING").count() == 2, "both tasks run")

    assert set(BackgroundTask.objects.values_list("status", flat=True)) == {"LOST"}
    assert_accounted()


def test_settings_of_the_test_are_those_of_the_process():
    from django.conf import settings

    with override_settings(BGTASKS={**settings.BGTASKS, "RELEASE": "of the test"}), killed(tasks.sleep, 60) as victim:
        assert victim.row.release == "of the test"


def test_an_error_in_the_block_kills_all_the_same():
    with pytest.raises(ZeroDivisionError), killed(tasks.sleep, 60) as victim:
        raise ZeroDivisionError

    assert victim.row.status == bgtasks.Status.LOST


async def test_in_async_code():
    async with killed(tasks.sleep, 60) as victim:
        pass

    assert victim.row.status == bgtasks.Status.LOST


def test_beside_live_mode():
    with live():
        handle = bgtasks.fire(tasks.succeed)
        with killed(tasks.sleep, 60) as victim:
            pass

    assert victim.row.status == bgtasks.Status.LOST
    assert handle.status == bgtasks.Status.SUCCESSFUL
    assert_accounted()


def test_arguments_that_do_not_fit():
    with pytest.raises(TypeError, match=r"JSON cannot hold"):
        killed(tasks.sleep, object())
    with pytest.raises(TypeError, match=r"cannot take these arguments"), killed(tasks.sleep, nobody="knows"):
        pass
    assert not BackgroundTask.objects.exists()


def test_what_no_other_process_could_run():
    @bgtasks.task
    async def local() -> None:
        pass

    with pytest.raises(TypeError, match=r"under @bgtasks\.task"):
        killed(test_arguments_that_do_not_fit)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="at the top level of a module"), killed(local):
        pass


@pytest.mark.django_db(transaction=False)
def test_in_a_transaction_it_refuses():
    with pytest.raises(RuntimeError, match="transaction"), killed(tasks.sleep, 60):
        pass


def test_the_process_ends_with_that_of_the_test():
    with killed(tasks.sleep, 60) as victim:
        process = victim._victim
        process.stdin.close()  # As at the end of this process.

        assert process.wait(20) == 1


def test_a_project_without_a_settings_module(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    with pytest.raises(RuntimeError, match="DJANGO_SETTINGS_MODULE"), killed(tasks.sleep, 60):
        pass


def test_what_is_unaccounted_for_is_named():
    with killed(tasks.sleep, 60) as victim:
        pass
    assert_accounted()
    BackgroundTask.objects.filter(pk=victim.row.pk).update(finished_at=None)
    with pytest.raises(AssertionError, match=f"(?s)without the time.*{victim.row.pk}"):
        assert_accounted()
    BackgroundTask.objects.filter(pk=victim.row.pk)._raw_delete("default")
    assert not Ledger.objects.exists()
    with pytest.raises(AssertionError, match="1 tasks were fired, 0 are in the table, 0 are gone"):
        assert_accounted()
