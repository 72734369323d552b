"""The metadata of the package, for processes that run where another checkout is installed."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def install_metadata(folder: Path) -> Path:
    """Return a folder for PYTHONPATH with the metadata of pyproject.toml about the plugin for pytest."""
    metadata = folder / "bgtasks-0.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [(name, module)] = project["entry-points"]["pytest11"].items()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: bgtasks\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text(f"[pytest11]\n{name} = {module}\n")
    return folder
