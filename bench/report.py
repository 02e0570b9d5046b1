#!/usr/bin/env python3
"""What came out: rows as JSON, as a Markdown table, and as a chart.

usage: report.py FILE.json [--document D.md] [--chart C.svg]

Puts the tables between the marks of a document, and draws the chart, from results that run.py has written.
"""

import argparse
import json
import math
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

# What an engine does between the files and the first result, with the names that mdlc gives it.
TO_FIRST_RESULT = ["read_seconds", "compile_seconds", "bind_seconds", "first_call_seconds"]
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PEER_NAMES = {"torch": "PyTorch", "ort": "ONNX Runtime", "openvino": "OpenVINO"}
# Beyond this share of the machine for others, a time is marked.
BUSY = 0.1


def ratios_by_round(mdlc, best):
    """The ratio of each round; an engine that was measured once stands for itself in all of them."""
    ours, theirs = mdlc["rounds_p50"], best["rounds_p50"]
    rounds = max(len(ours), len(theirs))
    pairs = zip(*(times * rounds if len(times) == 1 else times for times in (ours, theirs)))
    return [their / our for our, their in pairs]


def row(workload, group, threads, engines, failures):
    """A row from the summaries of the engines. Above 1, `ratio` says how many times faster mdlc is than the
    fastest peer; it and what belongs to it is None where one of the two sides has no time."""
    mdlc = engines.get("mdlc")
    peers = {name: engine for name, engine in engines.items() if name != "mdlc"}
    best = min(peers, key=lambda name: peers[name]["p50"], default=None)
    return {
        "workload": workload,
        "group": group,
        "threads": threads,
        "mdlc_p50": mdlc and mdlc["p50"],
        "best_peer": best,
        "best_p50": best and peers[best]["p50"],
        "ratio": peers[best]["p50"] / mdlc["p50"] if mdlc and best else None,
        "ratio_rounds": ratios_by_round(mdlc, peers[best]) if mdlc and best else [],
        "roofline_ratio": None,
        "max_rel_diff": mdlc and mdlc["max_rel_diff"],
        "compile_s": mdlc and mdlc["compile_s"],
        "engines": engines,
        "failures": failures,
    }


def read_rate(probe, size_bytes):
    """Bytes per second from a set of this size: that of the largest set probed which is no larger, so that
    the machine is not made out slower than it is."""
    smaller = [rate for probed, rate in probe["reads"] if probed <= size_bytes]
    return smaller[-1] if smaller else probe["reads"][0][1]


def roofline_seconds(facts, probe):
    """The time below which this machine cannot go by arithmetic or by reading alone."""
    arithmetic = facts["flops"] / probe["flops"] + facts["transcendentals"] / probe["exps"]
    size_bytes = facts["weight_bytes"] + facts["io_bytes"]
    seconds = max(arithmetic, size_bytes / read_rate(probe, size_bytes))
    if facts["reread"]:
        # A step cannot begin before the last has ended; half of the FLOPs, those of the inputs, can be done at once.
        step_bytes, steps = facts["reread"]
        step = step_bytes / read_rate(probe, step_bytes)
        seconds = max(seconds, facts["flops"] / 2 / probe["flops"] + steps * step)
    return seconds


@dataclass
class Results:
    """Everything in a result file."""

    about: dict = field(default_factory=dict)
    probe: dict = field(default_factory=dict)
    facts: dict = field(default_factory=dict)
    rows: list = field(default_factory=list)
    order: list = field(default_factory=list)

    @classmethod
    def read(cls, path, order=()):
        if not path.exists():
            return cls(order=list(order))
        known = json.loads(path.read_text())
        about = {key: value for key, value in known.items() if key not in ("probe", "facts", "rows")}
        rows, facts = known["rows"], known["facts"]
        return cls(about, known["probe"], facts, rows, list(order) or list(facts))

    def with_roofline(self, row):
        seconds = roofline_seconds(self.facts[row["workload"]], self.probe[str(row["threads"])])
        ratio = row["mdlc_p50"] / seconds if row["mdlc_p50"] else None
        return row | {"roofline_s": seconds, "roofline_ratio": ratio}

    def add(self, row):
        """Puts a row in the place of the older one of its workload and threads."""
        key = lambda r: (r["threads"], self.order.index(r["workload"]))
        same = lambda r: (r["workload"], r["threads"]) == (row["workload"], row["threads"])
        self.rows = sorted([r for r in self.rows if not same(r)] + [self.with_roofline(row)], key=key)

    def write(self, path):
        value = self.about | {"probe": self.probe, "facts": self.facts, "rows": self.rows}
        new = path.with_suffix(path.suffix + ".new")
        new.write_text(json.dumps(value, indent=1) + "\n")
        new.replace(path)

    def thread_counts(self):
        return sorted({row["threads"] for row in self.rows})


def duration(seconds):
    """A time with three digits."""
    if seconds is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            amount = seconds / size
            digits = 0 if amount >= 100 else 1 if amount >= 10 else 2
            return f"{amount:.{digits}f} {unit}"


def times(ratio):
    """A factor with about two digits."""
    return "-" if ratio is None else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def megabytes(size_bytes):
    return "-" if size_bytes is None else f"{size_bytes / 1e6:.0f}"


def line(row):
    """A row for someone who waits."""
    engines = [f"{name} {duration(e['p50'])}" for name, e in row["engines"].items()]
    failed = [f"{name} {v}: {why}".replace(" :", ":") for name, all in row["failures"].items() for v, why in all.items()]
    head = f"{row['workload']:16} {row['threads']} thread(s)  ratio {times(row['ratio'])}"
    return "; ".join([f"{head}  {', '.join(engines)}", *failed])


def geometric_mean(numbers):
    return math.exp(sum(map(math.log, numbers)) / len(numbers)) if numbers else None


def cell(row, name):
    """The median of an engine, with its formulation, in bold for the fastest peer."""
    engine = row["engines"].get(name)
    if engine is None:
        return "failed" if row["failures"].get(name) else "-"
    variant = "" if engine["variant"] in ("", "default") else f" ({engine['variant']})"
    busy = "~" if (engine["other_load"] or 0.0) > BUSY else ""
    text = f"{busy}{duration(engine['p50'])}{variant}"
    return f"**{text}**" if name == row["best_peer"] else text


def thread_table(results, threads):
    rows = [row for row in results.rows if row["threads"] == threads]
    peers = [name for name in PEER_NAMES if any(name in row["engines"] for row in rows)]
    head = ["workload", "mdlc", "p10 to p90", *(PEER_NAMES[name] for name in peers)]
    head += ["ratio", "by round", "of the roofline", "difference", "first result", "best peer's", "memory", "best peer's"]
    text = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    for row in rows:
        mdlc, best = row["engines"].get("mdlc"), row["engines"].get(row["best_peer"])
        to_first = lambda engine: duration(engine["compile_s"]) if engine else "-"
        memory = lambda engine: megabytes(engine["peak_bytes"]) if engine else "-"
        difference = "-" if row["max_rel_diff"] is None else f"{row['max_rel_diff']:.0e}"
        spread = f"{duration(mdlc['p10'])} to {duration(mdlc['p90'])}" if mdlc else "-"
        cells = [row["workload"], cell(row, "mdlc"), spread, *(cell(row, name) for name in peers)]
        rounds = row["ratio_rounds"]
        by_round = f"{times(min(rounds))} to {times(max(rounds))}" if rounds else "-"
        cells += [times(row["ratio"]), by_round, times(row["roofline_ratio"]), difference]
        cells += [to_first(mdlc), to_first(best), memory(mdlc), memory(best)]
        text.append(f"| {' | '.join(cells)} |")
    ratios = [row["ratio"] for row in rows if row["ratio"]]
    mean = f"Geometric mean of the ratios: {times(geometric_mean(ratios))}, over {len(ratios)} workloads."
    return "\n".join([*text, "", mean])


def failures(results):
    """What has no time, and why."""
    found = {}
    for row in results.rows:
        for name, by_variant in row["failures"].items():
            for variant, why in by_variant.items():
                what = f"{name} ({variant})" if variant not in ("", "default") else name
                found.setdefault((row["workload"], what, why), []).append(str(row["threads"]))
    lines = [f"- {w}, {what}, threads {', '.join(t)}: {why}" for (w, what, why), t in found.items()]
    return "\n".join(["Without a time:", "", *lines]) if lines else ""


def plural(count, word):
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def headline(results):
    about = results.about
    machine, versions = about["machine"], about["versions"]
    commits = sorted({row["commit"] for row in results.rows})
    engines = ", ".join(f"{name} {number}" for name, number in versions.items())
    kernels = sorted({row["engines"]["mdlc"]["backend"] for row in results.rows if "mdlc" in row["engines"]})
    return (
        f"{machine['cpu']}, {plural(machine['cores'], 'core')}, {machine['memory_gib']} GiB, {machine['system']}; {engines}; "
        f"mdlc at {', '.join(commits)} ({', '.join(kernels)}). {plural(about['rounds'], 'round')} of {about['seconds']} s for each engine."
    )


def probe_text(results):
    def one(threads, probe):
        reads = ", ".join(f"{rate / 1e9:.0f} from {size / 2**20:g} MiB" for size, rate in probe["reads"])
        speed = f"{probe['flops'] / 1e9:.0f} GFLOP/s, {probe['exps'] / 1e9:.1f} billion exponentials a second"
        return f"- {plural(int(threads), 'thread')}: {speed}; GB/s read: {reads}"

    return "\n".join(["The probe found:", "", *(one(*item) for item in sorted(results.probe.items()))])


def markdown(results):
    parts = [headline(results), probe_text(results)]
    for threads in results.thread_counts():
        parts += [f"### {plural(threads, 'thread')}", thread_table(results, threads)]
    return "\n\n".join([*parts, *filter(None, [failures(results)])]) + "\n"


ROW_HEIGHT, LEFT, WIDTH, TOP = 18, 130, 560, 56
COLOURS = ["#1f77b4", "#d95f02", "#2ca02c", "#9467bd"]


def chart(results):
    """Ratios on a logarithmic axis: a dot for each workload and number of threads, right of the line at 1
    where mdlc is faster than the fastest peer."""
    rows = [row for row in results.rows if row["ratio"]]
    names = list(dict.fromkeys(row["workload"] for row in rows))
    ratios = [row["ratio"] for row in rows] or [1.0]
    low = math.floor(math.log10(min(*ratios, 0.5)))
    high = math.ceil(math.log10(max(*ratios, 2.0)))
    at = lambda ratio: LEFT + WIDTH * (math.log10(ratio) - low) / (high - low)
    height = TOP + ROW_HEIGHT * len(names)
    bottom = height + 4
    title = "Speed of mdlc over that of the fastest peer (right of 1: mdlc is faster)"
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 30}" height="{height + 30}"'
        ' font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="18" font-size="14" fill="#222222">{title}</text>',
    ]
    for k, threads in enumerate(results.thread_counts()):
        x, colour = LEFT + 110 * k, COLOURS[k % len(COLOURS)]
        svg.append(f'<circle cx="{x + 5}" cy="33" r="5" fill="{colour}"/>')
        svg.append(f'<text x="{x + 16}" y="37" fill="#222222">{plural(threads, "thread")}</text>')
    for power in range(low, high + 1):
        for step in (1, 2, 5) if power < high else (1,):
            ratio, x = step * 10.0**power, at(step * 10.0**power)
            colour, width = ("#222222", 1.5) if ratio == 1 else ("#dddddd", 1)
            svg.append(f'<path d="M{x:.1f} {TOP - 8}V{bottom}" stroke="{colour}" stroke-width="{width}"/>')
            svg.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#555555">{ratio:g}</text>')
    for n, name in enumerate(names):
        y = TOP + ROW_HEIGHT * n + 4
        svg.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end" fill="#222222">{escape(name)}</text>')
        for row in (row for row in rows if row["workload"] == name):
            colour = COLOURS[results.thread_counts().index(row["threads"]) % len(COLOURS)]
            label = f"{name}, {plural(row['threads'], 'thread')}: {times(row['ratio'])}"
            dot = f'<circle cx="{at(row["ratio"]):.1f}" cy="{y}" r="5" fill="{colour}" fill-opacity="0.85">'
            svg.append(f"{dot}<title>{escape(label)}</title></circle>")
    return "\n".join([*svg, "</svg>"]) + "\n"


def into_document(document, text):
    """Replaces what stands between the marks."""
    before, rest = document.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--document", type=Path)
    parser.add_argument("--chart", type=Path)
    args = parser.parse_args()
    results = Results.read(args.results)
    if args.chart:
        args.chart.write_text(chart(results))
    if args.document:
        args.document.write_text(into_document(args.document.read_text(), markdown(results)))
    if not args.chart and not args.document:
        print(markdown(results))


if __name__ == "__main__":
    main()
