"""The machine: what it is, what it can do at best, and what else it was doing."""

import json
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path


def describe():
    """Processor, cores and memory, in words."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gib": round(memory / 2**30), "system": platform.system()}


def commit(root):
    """The commit that is checked out, with a + where files differ from it; empty outside a repository."""
    git = lambda *words: subprocess.run(["git", "-C", root, *words], capture_output=True, text=True).stdout.strip()
    found = git("rev-parse", "--short", "HEAD")
    return found + ("+" if found and git("status", "--porcelain", "--untracked-files=no") else "")


def peak_bytes(pid):
    """The most memory that a process has had resident; `None` where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


@dataclass
class Load:
    """Processor seconds spent until a moment, by all processes and by one of them."""

    wall: float
    all: float
    own: float

    @classmethod
    def of(cls, pid):
        tick = os.sysconf("SC_CLK_TCK")
        try:
            user, nice, system, _idle, _wait, irq, soft, steal = map(
                int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
            )
            # Behind the name, which may hold blanks: user and system time are fields 14 and 15.
            own = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except (OSError, ValueError):
            return cls(0.0, 0.0, 0.0)
        wall = float(Path("/proc/uptime").read_text().split()[0])
        busy = user + nice + system + irq + soft + steal
        return cls(wall, busy / tick, (int(own[11]) + int(own[12])) / tick)

    def by_others(self, later):
        """The share of the machine that others used between two moments."""
        available = (later.wall - self.wall) * (os.cpu_count() or 1)
        others = (later.all - self.all) - (later.own - self.own)
        return max(0.0, others / available) if available > 0 else 0.0


def probe(source, folder, threads):
    """Compiles and runs the probe; the best of three runs, for a shared machine only takes away."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "probe"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O3", "-march=native", "-pthread", source, "-o", program], check=True)
    runs = [json.loads(subprocess.check_output([program, str(threads)])) for _ in range(3)]
    best = {key: max(run[key] for run in runs) for key in ("flops", "exps")}
    reads = zip(*(run["reads"] for run in runs))
    return best | {"reads": [[same[0][0], max(rate for _, rate in same)] for same in reads]}
