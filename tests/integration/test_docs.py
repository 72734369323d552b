"""The Python blocks of the documentation run without an error."""

from __future__ import annotations

from typing import Any

import pytest

from bgtasks.definition import declared
from tests.pages import BLOCKS, Block, compile_block, name_of


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.order == "run"], ids=name_of)
async def test_block_runs(block: Block, runtime: Any):
    declared.clear()  # In place, since the registry reads this dictionary. A fixture restores its entries.
    waiting = eval(compile_block(block), {"__name__": "docs"})  # A coroutine, if the block awaits at its top level.

    if waiting is not None:
        await waiting
