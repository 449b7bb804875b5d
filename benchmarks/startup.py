"""How long it takes to start: `import discretion`, its first use and `discretion --help`, beside bare Python.

    python benchmarks/startup.py

Each is a process of its own, run in turn with the others; the median of eleven is printed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python, nothing imported": ["-c", "pass"],
    "import numpy": ["-c", "import numpy"],
    "import polars": ["-c", "import polars"],
    "import discretion": ["-c", "import discretion"],
    "discretion.audit, first use": ["-c", "import discretion; discretion.audit"],
    "discretion --help": ["-c", "from discretion.cli import main; main()", "--help"],
}


def main() -> None:
    """Time every command in turn and print the medians."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(12):  # the first round fills the caches and is not counted
        for name, arguments in COMMANDS.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - begin)
    base = statistics.median(times["python, nothing imported"][1:])
    for name, seconds in times.items():
        median = statistics.median(seconds[1:])
        print(f"{name:30} {median * 1000:6.0f} ms   {(median - base) * 1000:6.0f} ms beyond Python itself")


if __name__ == "__main__":
    main()
