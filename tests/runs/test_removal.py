"""Removal of runs and comparisons: what lies beside them stays."""

from pathlib import Path

import pytest

from charlm.common.errors import UsageError
from charlm.config.schema import Config, to_toml
from charlm.runs import removal
from charlm.runs.removal import Removed


def test_pruning_follows_no_link_and_leaves_files(tmp_path: Path) -> None:
    """Keep the link to a folder that would be removed if it were in its place."""
    folder, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    for path in (folder / "killed", elsewhere):
        path.mkdir(parents=True)
        (path / ".lock").touch()
        (path / "config.toml").write_text(to_toml(Config()))
    (folder / "link").symlink_to(elsewhere)
    (folder / f"{removal.REMOVING}file").write_text("notes")
    assert removal.prune(folder) == [
        Removed(str(folder / "killed"), (elsewhere / "config.toml").stat().st_size)
    ]
    assert sorted(path.name for path in folder.iterdir()) == [f"{removal.REMOVING}file", "link"]
    assert (elsewhere / "config.toml").is_file()


def test_comparison_with_more_in_it_is_not_removed(tmp_path: Path) -> None:
    for name in ("runs", "measured", "figures"):
        (tmp_path / "compared" / name).mkdir(parents=True)
    (tmp_path / "compared" / ".lock").touch()
    for number in range(4):
        (tmp_path / "compared" / f"notes-{number}.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError) as caught:
        removal.remove([tmp_path / "compared"])
    assert caught.value.what == (
        f"{tmp_path / 'compared'} holds more than a comparison: "
        "notes-0.txt, notes-1.txt, notes-2.txt"
    )
    assert caught.value.advice == "move that elsewhere first"
    assert sorted(tmp_path.rglob("*")) == before
