"""Where numbers come from: code, packages and machine, without a host name, a user name or a path; and named seeds.

Packages are those that spillover needs at run time and theirs, read from installed metadata without importing them. The
lock hash is the hash of their versions: equal hashes mean equal packages, whatever else is installed next to them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np

from spillover.records.base import Computed, content_hash

PACKAGE = Path(__file__).parent
GIB = 2**30
COMPUTED = ("dtype", "device", "torch")


def seed_for(root: int, *names: str | int) -> int:
    """The seed of a named random choice: SeedSequence over the root seed and the hash of the names, below 2**53.

    A name never shifts another name's seed, and 53 bits survive every JSON reader.
    """
    digest = hashlib.blake2b(json.dumps(names).encode(), digest_size=16).digest()
    words = np.frombuffer(digest, dtype="<u4")
    state = np.random.SeedSequence([root, *(int(word) for word in words)]).generate_state(1, np.uint64)
    return int(state[0]) >> 11


def environment() -> dict[str, Any]:
    """Everything below in one dictionary, as `spillover env --json` prints it and a manifest keeps it."""
    found = packages()
    return {
        "spillover": found["spillover"],
        "python": platform.python_version(),
        "lock_hash": lock_hash(found),
        "git": git_state(),
        "hardware": hardware(),
        "packages": found,
    }


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def packages(root: str = "spillover") -> dict[str, str]:
    """Installed versions of `root` and of everything it requires outside extras, by name."""
    found: dict[str, str] = {}
    waiting = [root]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            installed = distribution(name)
        except PackageNotFoundError:  # a requirement of another platform
            continue
        found[name] = installed.version
        for requirement in installed.requires or ():
            required, _, marker = requirement.partition(";")
            if "extra" not in marker:
                waiting.append(re.split(r"[^A-Za-z0-9._-]", required.strip(), maxsplit=1)[0])
    return dict(sorted(found.items()))


def lock_hash(versions: dict[str, str]) -> str:
    """Hash of names and versions."""
    return content_hash(versions)


def git_state(package: Path = PACKAGE) -> dict[str, str]:
    """Commit of the checkout that holds the package, and whether tracked files differ; empty outside a checkout."""
    top = _output("git", "-C", str(package), "rev-parse", "--show-toplevel")
    # An environment's site-packages may lie inside somebody else's repository, which says nothing about this code.
    if not top or Path(top) / "src" / "spillover" != package:
        return {}
    status = _output("git", "-C", top, "status", "--porcelain", "--untracked-files=no")
    commit = _output("git", "-C", top, "rev-parse", "HEAD")
    return {"commit": commit, "dirty": "yes" if status else "no"} if commit else {}


def computed(units: Iterable[tuple[str, str, Mapping[str, str]]]) -> tuple[Computed, ...]:
    """Units by what they were computed in, from (stage, model, what its stage wrote down); the silent are left out."""
    counts = Counter((stage, model, *(how[name] for name in COMPUTED)) for stage, model, how in units if how)
    return tuple(
        Computed(stage=stage, model=model, dtype=dtype, device=device, torch=torch, units=count)
        for (stage, model, dtype, device, torch), count in counts.items()
    )


def hardware() -> dict[str, str]:
    """Processor, cores this process may use, memory it may use, and graphics cards."""
    cards = _output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": str(cores()),
        "cpu_bf16": "yes" if cpu_has_bf16() else "no",
        "memory_gib": f"{memory_bytes() / GIB:.1f}",
        "gpu": "; ".join(cards.splitlines()) or "none",
    }


def cpu_model() -> str:
    """The processor's name; its architecture where the system does not tell."""
    match = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return match[1] if match else _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies matrices of bfloat16 faster than of float32 (AMX)."""
    return "amx_bf16" in _cpuinfo()


def cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory, or the container's limit where that is lower."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _text(Path("/sys/fs/cgroup/memory.max")).strip()
    return min(physical, int(limit)) if limit.isdigit() else physical


def available_bytes() -> int:
    """Memory that new processes can have without swapping, or what the container's limit leaves where that is lower."""
    match = re.search(r"^MemAvailable:\s*(\d+) kB", _text(Path("/proc/meminfo")), re.MULTILINE)
    if match:
        free = int(match[1]) * 1024
    elif "SC_AVPHYS_PAGES" in os.sysconf_names:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    else:  # macOS states no such number
        free = memory_bytes()
    limit, used = (_text(Path(f"/sys/fs/cgroup/memory.{name}")).strip() for name in ("max", "current"))
    if not (limit.isdigit() and used.isdigit()):
        return free
    cached = re.search(r"^inactive_file (\d+)", _text(Path("/sys/fs/cgroup/memory.stat")), re.MULTILINE)
    return max(0, min(free, int(limit) - int(used) + (int(cached[1]) if cached else 0)))


def _cpuinfo() -> str:
    return _text(Path("/proc/cpuinfo"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
