"""Line coverage of the kernels by the tests that compute with them.

    python tests/campaigns/coverage_cxx.py [PYTEST_ARGUMENT...]

Needs g++ with gcov. Compiled are the lines for this processor; those for others are not counted.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

COMPILER = """#!/bin/sh
# Compiles to a place that stays, as gcov needs it, then to the place that was asked for.
for word do
  [ "$last" = -o ] && target=$word
  last=$word
done
case $target in
  *.o) kept={folder}/$(basename "$target")
       g++ "$@" -O0 --coverage -fprofile-update=atomic -o "$kept" && cp "$kept" "$target" ;;
  *) g++ "$@" --coverage ;;
esac
"""
TESTS = ["tests/native", "tests/models/test_plain.py", "tests/serving/test_lanes.py"]
BROKEN = "not compile and not build and not wrongly"
"""Leaves out the tests that compile kernels with changed lines."""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compiler = folder / "covered_cxx"
        compiler.write_text(COMPILER.format(folder=folder))
        compiler.chmod(0o755)
        wanted = sys.argv[1:] or [*TESTS, "-n", "2", "--dist", "worksteal", "-k", BROKEN]
        environment = {**os.environ, "CXX": str(compiler)}
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *wanted], env=environment, check=False
        )
        covered = lines_of(folder)
    report(covered)


def lines_of(folder: Path) -> dict[str, dict[int, int]]:
    """Return the executions of each line, by the names of files in charlm/native/kernels."""
    command = ["gcov", "--json-format", "--stdout", *map(str, folder.glob("*.gcda"))]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    counts: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for unit in map(json.loads, done.stdout.splitlines()):
        for file in unit["files"]:
            path = Path(file["file"])
            if path.parent.name == "kernels":
                for line in file["lines"]:
                    counts[path.name][line["line_number"]] += line["count"]
    return counts


def report(counts: dict[str, dict[int, int]]) -> None:
    """Print the share of every file, and the lines that nothing has executed."""
    for name, lines in sorted(counts.items()):
        missed = [number for number, count in sorted(lines.items()) if not count]
        share = 1 - len(missed) / len(lines)
        print(f"{name:<20} {len(lines):>5} lines {share:>7.1%}  {' '.join(map(str, missed))}")
    every = [count for lines in counts.values() for count in lines.values()]
    print(f"{'all':<20} {len(every):>5} lines {sum(map(bool, every)) / len(every):>7.1%}")


if __name__ == "__main__":
    main()
