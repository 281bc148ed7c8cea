"""What a run was made with: packages, the revision of the code, the machine; and whether a process still lives."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from atft import __version__

PACKAGES = (
    "torch", "torch-geometric", "numpy", "scipy", "polars", "pyarrow", "pydantic", "pydantic-settings", "pyyaml",
    "lightgbm", "safetensors", "ray", "jinja2", "matplotlib",
)  # fmt: skip
"""What a run may load beside the standard library."""
PACKAGE = Path(__file__).resolve().parents[1]
GIT_SECONDS = 10.0


def environment() -> dict[str, Any]:
    """Packages, code and hardware of this process, as plain data."""
    return {"packages": packages(), "code": code(), "hardware": hardware()}


def packages() -> dict[str, str]:
    """Versions of Python and of the packages that a run may load; those that are not installed are left out."""
    found = {"python": platform.python_version(), "atft": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def code(package: Path = PACKAGE) -> dict[str, Any]:
    """Which code this is: the commit and whether files differ from it in a checkout, the version otherwise.

    Args:
        package: directory of the package.
    """
    told: dict[str, Any] = {"version": __version__, "commit": None, "dirty": None}
    checkout = package.parent
    if not (checkout / ".git").exists():
        return told
    commit = _git(checkout, "rev-parse", "HEAD")
    changes = _git(checkout, "status", "--porcelain", "--", package.name, "helm/atft/tiers")
    return told | {"commit": commit or None, "dirty": None if changes is None else bool(changes)}


def _git(checkout: Path, *command: str) -> str | None:
    """What Git says; None where there is no Git, or it refuses.

    Without the locks that Git takes to refresh its index: a run that is killed here would leave them behind.
    """
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(checkout), *command],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def hardware() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in bytes, and GPUs that it sees."""
    return {
        "system": platform.platform(),
        "cpu": _processor(),
        "cores": _cores(),
        "memory_bytes": _memory(),
        **_gpus(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _gpus() -> dict[str, Any]:
    """Of a process that has loaded torch: whoever trains has, and nothing else has to load it for this."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {"gpus": [], "cuda": None}
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {"gpus": names, "cuda": torch.version.cuda}


def process() -> dict[str, Any]:
    """This process, so that another one can tell later whether it still lives."""
    return {"pid": os.getpid(), "started": _started(os.getpid()), "host": socket.gethostname(), **_kernel()}


def is_alive(told: Mapping[str, Any]) -> bool | None:
    """Whether a process that :func:`process` told still lives; None where this machine cannot know.

    A number of a process means something only under the kernel that gave it and in its name space; numbers are used
    again, and so the time of the start counts too.
    """
    here = {"host": socket.gethostname(), **_kernel()}
    same = ("boot", "namespace") if here["boot"] else ("boot", "host")
    if any(told.get(name) != here[name] for name in same) or not isinstance(told.get("pid"), int):
        return None
    if told.get("started") is not None:
        return bool(_started(told["pid"]) == told["started"])
    try:
        os.kill(told["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _kernel() -> dict[str, str | None]:
    """The boot of this machine's kernel and the name space of its processes; None where there is no ``/proc``."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return {"boot": boot, "namespace": os.readlink("/proc/self/ns/pid")}
    except OSError:
        return {"boot": None, "namespace": None}


def _started(pid: int) -> int | None:
    """When a process was started, in the kernel's ticks since its boot; None where there is none, or a dead one."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if told[0] in "ZX" else int(told[19])
