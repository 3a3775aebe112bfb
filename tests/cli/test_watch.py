"""`charlm runs --watch`: the table again when something has changed, until it is stopped."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest import charlm, train_each, words


def test_runs_are_printed_again_when_they_change(tmp_path: Path) -> None:
    train_each(tmp_path, words(1500), {"one": []})
    (tmp_path / "runs").mkdir()
    shutil.move(tmp_path / "one", tmp_path / "runs" / "one")
    command = [sys.executable, "-m", "charlm", "runs", "--watch"]
    seen = tmp_path / "seen.txt"
    with seen.open("w") as out:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=out, stderr=subprocess.DEVNULL)

        def wait_for(count: int, text: str) -> None:
            end = time.monotonic() + 60
            while seen.read_text().count(text) < count:
                assert time.monotonic() < end, seen.read_text()
                assert process.poll() is None
                time.sleep(0.1)

        wait_for(1, "runs/one")
        time.sleep(2.5)
        assert seen.read_text().count("runs/one") == 1  # nothing has changed
        shutil.copytree(tmp_path / "runs" / "one", tmp_path / "runs" / "two")
        wait_for(1, "runs/two")
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130


def test_watch_goes_alone(tmp_path: Path) -> None:
    done = charlm("runs", "--watch", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert "--watch goes alone" in done.stderr
