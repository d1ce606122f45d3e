"""Warns of what makes times scatter or drift on this machine, and how that affects a comparison; from Linux's files,
silent elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# The fraction of all CPUs that may be busy with other things before anything is measured.
_BUSY = 0.25


def warnings(root: str = "/", load: float | None = None) -> list[str]:
    """One sentence per warning, with its effect."""
    return [
        *_frequency(Path(root)),
        *_threads(Path(root)),
        *_load(load),
        *_virtual(Path(root)),
        *_addresses(Path(root)),
    ]


def _frequency(root: Path) -> Iterator[str]:
    governors = {_read(path) for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")}
    if others := sorted(governors - {"performance", ""}):
        yield f"CPU frequency governor {', '.join(others)}: clocks follow the load; both sides scatter more (set: performance)"
    boosting = (
        _read(root / "sys/devices/system/cpu/cpufreq/boost") == "1"
        or _read(root / "sys/devices/system/cpu/intel_pstate/no_turbo") == "0"
    )
    if boosting:
        yield "turbo is on: clocks fall as the package warms up; turns of both sides cancel the drift, not the scatter"


def _threads(root: Path) -> Iterator[str]:
    if _read(root / "sys/devices/system/cpu/smt/active") == "1":
        yield "SMT is on: what runs on a sibling thread takes up to half of a core away; more pairs will be needed"


def _load(load: float | None) -> Iterator[str]:
    cpus = os.cpu_count() or 1
    if load is None:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > _BUSY * cpus:
        yield f"other programs are running (load {load:.1f} on {cpus} CPUs): times scatter, more pairs will be needed"


def _virtual(root: Path) -> Iterator[str]:
    if "hypervisor" in _flags(root):
        yield "a virtual machine: neighbours share its caches and memory bandwidth, unseen; only ratios within a run mean anything"


def _flags(root: Path) -> set[str]:
    for line in _read(root / "proc/cpuinfo").splitlines():
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()


def _addresses(root: Path) -> Iterator[str]:
    if _read(root / "proc/sys/kernel/randomize_va_space") not in ("", "0"):
        yield (
            "addresses are random (ASLR), so each process has a speed of its own: that is why pairs of processes, not rounds, are "
            "what is counted"
        )


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""
