"""
A short run of the harness, as part of each test run. The verifier must also detect forged evidence.

`python -m tests.chaos` runs longer. CHAOS_SEED repeats a failed run, except for the load of the machine.
"""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests import databases

from .__main__ import UNUSABLE
from .evidence import Evidence, load
from .fleet import ROOT
from .harness import EXPECTATIONS
from .marks import START
from .verifier import find_problems

KILLS = 5


@pytest.mark.timeout(240)  # The harness has shorter limits; this one is for a machine that stalls for minutes.
def test_no_task_gets_lost_and_forged_evidence_is_noticed(tmp_path: Path) -> None:
    seed = os.environ.get("CHAOS_SEED") or str(random.SystemRandom().randrange(1_000_000))
    command = (
        f"-m tests.chaos --database {databases.KIND} --kills {KILLS} --seed {seed} --format json --keep {tmp_path}"
    )
    found = subprocess.run([sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True)
    if found.returncode == UNUSABLE:
        pytest.skip(found.stderr)
    assert found.returncode == 0, f"CHAOS_SEED={seed}\n{found.stderr}\n{found.stdout}"

    figures = json.loads(found.stdout)
    assert figures["kills"] >= KILLS
    assert figures["acknowledged"] > 0
    evidence = load(tmp_path)
    assert len(evidence.rows) == figures["tasks"]
    assert find_problems(evidence, EXPECTATIONS) == []
    for forge, promise in ((delete_a_row, "missing"), (start_twice, "started twice"), (change_a_final_state, "final")):
        forged = copy.deepcopy(evidence)
        forge(forged)
        assert promise in " ".join(problem.promise for problem in find_problems(forged, EXPECTATIONS)), forge.__name__


def delete_a_row(evidence: Evidence) -> None:
    fired = next(fired for fired in evidence.fired if fired.outcome == "acknowledged" and fired.mode == "afire")
    assert fired.id is not None  # Acknowledged tasks have one.
    del evidence.rows[fired.id]
    evidence.finals.pop(fired.id, None)


def start_twice(evidence: Evidence) -> None:
    def may_run_once(id_: str) -> bool:
        return id_ in evidence.rows and evidence.rows[id_].on_lost == "fail"

    evidence.marks.append(next(mark for mark in evidence.marks if mark.what == START and may_run_once(mark.id)))


def change_a_final_state(evidence: Evidence) -> None:
    row = next(iter(evidence.rows.values()))
    evidence.rows[row.id] = replace(row, status="CANCELLED" if row.status != "CANCELLED" else "LOST")
