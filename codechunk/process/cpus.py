"""How many processors this process may use, on any system."""

import os


def usable_cpus() -> int:
    """Processors that this process may run on, at least one; where a system does not tell, all of them.

    `sched_getaffinity` exists on Linux only, and containers and `taskset` limit it; `process_cpu_count` came with
    Python 3.13.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    if affinity is not None:
        return len(affinity(0)) or 1
    count = getattr(os, "process_cpu_count", os.cpu_count)
    return count() or 1
