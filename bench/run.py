#!/usr/bin/env python3
"""Times mdlc beside its peers: every engine in a process of its own, all of them in turns.

    bench/setup.sh VENV                                   once: the peers
    cargo build --release
    python3 bench/run.py --peers VENV --json FILE.json    also writes FILE.md and FILE.svg

For each workload and number of threads: the inputs are drawn, the peers' model files exported (once, kept
in --cache), every engine compiles and gives its outputs, which are compared with those of PyTorch eager.
Where a peer has several formulations of the function, a round of each decides which one takes part. Then
the engines are asked for rounds of calls in turns, so that a machine that slows down does so for all.

FILE.json is written after every row; rows that it holds already are kept unless they are measured again.
"""

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import machine
import report

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS = ["torch", "ort", "openvino"]
# A larger relative difference from PyTorch eager disqualifies.
TOLERANCE = 1e-4
# Seconds that an engine may take to compile and call once, and to answer.
PATIENCE = 900
# Seconds of a call beyond which one is enough: it stands for all rounds.
LONG_CALL = 20.0
# Seconds between two engines' turns, for threads that spin to go to sleep.
PAUSE = 0.2


class Failed(Exception):
    """Why an engine has no time."""


@dataclass
class Engine:
    """An engine that has compiled a workload, and the rounds it has been asked for."""

    name: str
    variant: str
    process: subprocess.Popen
    ready: dict
    rel_diff: float
    rounds: list[list[float]] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    peak_bytes: int | None = None

    @classmethod
    def start(cls, name, variant, command, output, compare, environment=None):
        """Runs a command that answers requests for rounds; compares the outputs it has written."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with open(output.with_suffix(".log"), "w+") as log:
            pipes["stderr"] = log
            process = subprocess.Popen([str(word) for word in command], text=True, bufsize=1, env=environment, **pipes)
            try:
                ready = read_answer(process)
            except Failed as failure:
                end(process)
                log.seek(0)
                said = [line.strip() for line in log.read().splitlines() if line.strip()]
                raise Failed(f"{failure}: {said[-1][:200]}" if said else str(failure)) from None
        try:
            difference = compare(output)
        except Failed:
            end(process)
            raise
        output.unlink()
        engine = cls(name, variant, process, ready, difference)
        if difference > TOLERANCE:
            engine.close()
            raise Failed(f"its outputs differ from PyTorch's by {difference:.1e}")
        if ready["first_call_seconds"] > LONG_CALL:
            engine.rounds.append([ready["first_call_seconds"]])
            engine.peak_bytes = machine.peak_bytes(process.pid)
            engine.close()
        return engine

    @property
    def is_running(self):
        return self.process.poll() is None

    def ask(self):
        """Measures a round."""
        before = machine.Load.of(self.process.pid)
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        answer = read_answer(self.process)
        self.loads.append(before.by_others(machine.Load.of(self.process.pid)))
        self.rounds.append(answer["seconds"])
        self.peak_bytes = answer["peak_bytes"]

    def close(self):
        end(self.process)

    def times(self):
        return sorted(second for seconds in self.rounds for second in seconds)

    @property
    def p50(self):
        return quantile(self.times(), 0.5)

    def summary(self):
        times, ready = self.times(), self.ready
        to_first_result = sum(ready.get(part, 0.0) for part in report.TO_FIRST_RESULT)
        parts = {part: ready[part] for part in report.TO_FIRST_RESULT if part in ready}
        return {
            "variant": self.variant,
            "backend": ready.get("backend"),
            "min": times[0],
            "p10": quantile(times, 0.1),
            "p50": quantile(times, 0.5),
            "p90": quantile(times, 0.9),
            "runs": len(times),
            "rounds_p50": [quantile(sorted(seconds), 0.5) for seconds in self.rounds],
            "compile_s": to_first_result,
            **parts,
            "peak_bytes": self.peak_bytes,
            "base_bytes": ready.get("base_bytes"),
            "max_rel_diff": self.rel_diff,
            "other_load": statistics.median(self.loads) if self.loads else None,
        }


def end(process):
    """Lets a process end by the end of its input, or ends it."""
    try:
        process.stdin.close()
        process.wait(10)
    except (subprocess.TimeoutExpired, OSError):
        process.kill()
        process.wait()
    process.stdout.close()


def read_answer(process):
    """The next line of a process, as JSON."""
    readable, _, _ = select.select([process.stdout], [], [], PATIENCE)
    if not readable:
        process.kill()
        raise Failed(f"it gave no answer within {PATIENCE} s")
    line = process.stdout.readline()
    if not line:
        code = process.wait()
        raise Failed(f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}")
    return json.loads(line)


def quantile(times, part):
    """The time at the nearest rank of a sorted list."""
    return times[round(part * (len(times) - 1))]


@dataclass
class Bench:
    """What is the same for all rows."""

    python: Path
    mdlc: Path
    cache: Path
    # Outputs of engines: of this run alone, for several may share the cache.
    scratch: Path
    seconds: float
    rounds: int
    log: object = sys.stderr

    def say(self, text):
        print(text, file=self.log, flush=True)

    def folder(self, workload):
        return self.cache / workload["name"]

    def script(self, name, *arguments):
        """Runs a script of this folder with the peers' Python; gives what it printed."""
        done = subprocess.run([self.python, HERE / name, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{name}: {done.stderr.strip().splitlines()[-1]}" if done.stderr else f"{name} failed")
        return done.stdout

    def compare(self, workload):
        expected = self.folder(workload) / "expected.safetensors"
        return lambda output: float(self.script("compare.py", expected, output))

    def start_mdlc(self, workload, threads):
        """mdlc with all sizes fixed, as an exported model has them."""
        folder = self.folder(workload)
        output = self.scratch / "mdlc.safetensors"
        command = [self.mdlc, "bench", ROOT / workload["file"], *workload["options"], "--no-cache", "--on-request"]
        command += ["--weights", folder / "weights.safetensors", "--input", folder / "inputs.safetensors"]
        command += ["--threads", threads, "--seconds", self.seconds, "--output", output]
        return Engine.start("mdlc", "", command, output, self.compare(workload))

    def start_peer(self, workload, threads, peer, variant):
        folder = self.folder(workload)
        if peer != "torch":
            self.script("prepare.py", workload["name"], folder, variant)
        output = self.scratch / f"{peer}.safetensors"
        command = [self.python, HERE / "engines.py", peer, workload["name"], variant, "--folder", folder]
        command += ["--threads", threads, "--seconds", self.seconds, "--output", output]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        return Engine.start(peer, variant, command, output, self.compare(workload), environment)

    def fastest_variant(self, workload, threads, peer):
        """The formulation of a peer that takes part, and why others do not."""
        best, failures = None, {}
        variants = workload["variants"][peer]
        for variant in variants:
            try:
                engine = self.start_peer(workload, threads, peer, variant)
                if engine.is_running and len(variants) > 1:
                    engine.ask()
            except Failed as failure:
                failures[variant] = str(failure)
                continue
            if best is None or (len(variants) > 1 and engine.p50 < best.p50):
                best, engine = engine, best
            if engine:
                engine.close()
        if best and best.is_running:
            best.rounds.clear()
            best.loads.clear()
        return best, failures

    def row(self, workload, threads):
        """Measures one workload at one number of threads."""
        engines, failures = [], {}
        try:
            try:
                engines.append(self.start_mdlc(workload, threads))
            except Failed as failure:
                failures["mdlc"] = {"": str(failure)}
            for peer in PEERS:
                engine, failed = self.fastest_variant(workload, threads, peer)
                engines += [engine] if engine else []
                failures |= {peer: failed} if failed else {}
            self.take_turns(engines, failures)
        finally:
            for engine in engines:
                engine.close()
        summaries = {e.name: e.summary() for e in engines if e.rounds}
        return report.row(workload["name"], workload["group"], threads, summaries, failures)

    def take_turns(self, engines, failures):
        """Asks for rounds; each round begins with another engine."""
        running = [engine for engine in engines if engine.is_running]
        for number in range(self.rounds):
            start = number % max(1, len(running))
            for engine in running[start:] + running[:start]:
                time.sleep(PAUSE)
                try:
                    engine.ask()
                except (Failed, OSError) as failure:
                    failures.setdefault(engine.name, {})[engine.variant] = str(failure)
            running = [engine for engine in running if engine.is_running]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, metavar="VENV", help="where setup.sh installed the peers")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--only", metavar="W,...", help="workloads or groups; without it all")
    parser.add_argument("--threads", default="1,2", metavar="N,...")
    parser.add_argument("--rounds", type=int, default=5, metavar="R")
    parser.add_argument("--seconds", type=float, default=0.3, metavar="S", help="of calls, per round and engine")
    parser.add_argument("--mdlc", type=Path, default=ROOT / "target/release/mdlc")
    parser.add_argument("--cache", type=Path, default=ROOT / "target/bench", help="weights, inputs and exports")
    return parser.parse_args()


def main():
    args = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        python = args.peers / "bin/python"
        measure(args, Bench(python, args.mdlc, args.cache, Path(scratch), args.seconds, args.rounds))


def measure(args, bench):
    workloads = json.loads(bench.script("list.py"))
    wanted = args.only.split(",") if args.only else None
    chosen = [w for w in workloads if not wanted or w["name"] in wanted or w["group"] in wanted]
    if not chosen:
        sys.exit("no such workload; there are " + ", ".join(w["name"] for w in workloads))
    thread_counts = [int(count) for count in args.threads.split(",")]
    results = report.Results.read(args.json, order=[w["name"] for w in workloads])
    results.about = {
        "machine": machine.describe(),
        "versions": json.loads(bench.script("list.py", "--versions")),
        "rounds": args.rounds,
        "seconds": args.seconds,
    }
    commit = machine.commit(ROOT)
    for threads in thread_counts:
        if str(threads) not in results.probe:
            bench.say(f"probe with {threads} thread(s)")
            results.probe[str(threads)] = machine.probe(HERE / "probe.c", args.cache, threads)
    for workload in chosen:
        bench.script("prepare.py", workload["name"], bench.folder(workload))
        results.facts[workload["name"]] = json.loads((bench.folder(workload) / "facts.json").read_text())
        for threads in thread_counts:
            row = bench.row(workload, threads) | {"commit": commit}
            results.add(row)
            results.write(args.json)
            bench.say(report.line(results.with_roofline(row)))
    args.json.with_suffix(".md").write_text(report.markdown(results))
    args.json.with_suffix(".svg").write_text(report.chart(results))


if __name__ == "__main__":
    main()
