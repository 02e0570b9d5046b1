"""Tests of what needs no engine: python3 bench/test_bench.py"""

import sys
import tempfile
import unittest
import xml.dom.minidom
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import machine
import report
import run

PROBE = {"flops": 100e9, "exps": 5e9, "reads": [[1024, 100e9], [4096, 10e9]]}


def facts(**changes):
    plain = {"flops": 0.0, "transcendentals": 0, "weight_bytes": 0.0, "io_bytes": 0.0, "reread": None}
    return plain | changes


def engine(p50, **changes):
    plain = {"variant": "default", "backend": "avx2", "p10": p50 / 2, "p50": p50, "p90": p50 * 2}
    plain |= {"rounds_p50": [p50], "compile_s": 0.1}
    return plain | {"max_rel_diff": 1e-6, "peak_bytes": 1 << 20, "other_load": 0.0} | changes


class Roofline(unittest.TestCase):
    def test_the_slowest_resource_decides(self):
        self.assertAlmostEqual(report.roofline_seconds(facts(flops=100e9, transcendentals=5e9), PROBE), 2.0)
        self.assertAlmostEqual(report.roofline_seconds(facts(flops=1.0, weight_bytes=3e9, io_bytes=7e9), PROBE), 1.0)

    def test_a_set_is_read_as_fast_as_the_largest_that_fits_into_it(self):
        for size_bytes, rate in [(10, 100e9), (1024, 100e9), (4095, 100e9), (4096, 10e9), (1 << 40, 10e9)]:
            self.assertEqual(report.read_rate(PROBE, size_bytes), rate)

    def test_a_recurrence_reads_its_weights_at_every_step(self):
        steps = facts(flops=2e9, weight_bytes=1024.0, reread=[1000, 10_000_000])
        self.assertAlmostEqual(report.roofline_seconds(steps, PROBE), 0.01 + 0.1)


class Rows(unittest.TestCase):
    def row(self, workload="gru", threads=1, failures=None, **engines):
        return report.row(workload, "recurrent", threads, engines, failures or {}) | {"commit": "abc"}

    def results(self, *rows):
        results = report.Results(order=["gru", "moe"], probe={"1": PROBE, "2": PROBE})
        results.about = {"machine": machine.describe(), "versions": {"torch": "2"}, "rounds": 1, "seconds": 0.1}
        results.facts = {"gru": facts(flops=1e9), "moe": facts(flops=1e9)}
        for row in rows:
            results.add(row)
        return results

    def test_the_ratio_is_to_the_fastest_peer(self):
        row = self.row(mdlc=engine(0.02), torch=engine(0.05), ort=engine(0.01))
        self.assertEqual((row["best_peer"], row["ratio"], row["mdlc_p50"]), ("ort", 0.5, 0.02))
        self.assertAlmostEqual(self.results(row).rows[0]["roofline_ratio"], 2.0)

    def test_rounds_are_compared_each_with_its_own(self):
        mdlc, peer = engine(2.0, rounds_p50=[2.0, 4.0]), engine(3.0, rounds_p50=[2.0, 3.0])
        self.assertEqual(self.row(mdlc=mdlc, ort=peer)["ratio_rounds"], [1.0, 0.75])
        self.assertEqual(self.row(mdlc=engine(6.0), ort=peer)["ratio_rounds"], [1 / 3, 1 / 2])

    def test_a_side_without_a_time_gives_no_ratio(self):
        for engines in ({"torch": engine(1.0)}, {"mdlc": engine(1.0)}, {}):
            row = self.row(failures={"ort": {"default": "it ended with code 1"}}, **engines)
            results = self.results(row)
            self.assertIsNone(row["ratio"])
            self.assertIn("gru, ort, threads 1: it ended with code 1", report.markdown(results))
            xml.dom.minidom.parseString(report.chart(results))

    def test_a_row_replaces_the_older_one(self):
        old, new = self.row(mdlc=engine(2.0)), self.row(mdlc=engine(1.0))
        results = self.results(self.row("moe"), old, self.row(threads=2), new)
        found = [(row["workload"], row["threads"], row["mdlc_p50"]) for row in results.rows]
        self.assertEqual(found, [("gru", 1, 1.0), ("moe", 1, None), ("gru", 2, None)])

    def test_results_are_read_as_they_were_written(self):
        results = self.results(self.row(mdlc=engine(2.0), torch=engine(1.0)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "r.json"
            results.write(path)
            self.assertEqual(report.markdown(report.Results.read(path)), report.markdown(results))

    def test_tables_and_chart_show_every_row(self):
        first = self.row(mdlc=engine(0.0021), torch=engine(0.004, variant="sorted", other_load=0.5))
        results = self.results(first, self.row("moe", mdlc=engine(1.0), torch=engine(0.25)))
        table = report.markdown(results)
        self.assertIn("| gru | 2.10 ms |", table)
        self.assertIn("**~4.00 ms (sorted)**", table)
        self.assertIn("Geometric mean of the ratios: 0.69, over 2 workloads.", table)
        chart = xml.dom.minidom.parseString(report.chart(results))
        titles = [title.firstChild.data for title in chart.getElementsByTagName("title")]
        self.assertEqual(titles, ["gru, 1 thread: 1.90", "moe, 1 thread: 0.25"])

    def test_only_what_is_between_the_marks_is_replaced(self):
        document = f"before\n{report.BEGIN}\nold\n{report.END}\nafter"
        replaced = report.into_document(document, "new")
        self.assertEqual(replaced, f"before\n{report.BEGIN}\n\nnew\n{report.END}\nafter")
        self.assertEqual(report.into_document(replaced, "new"), replaced)


class Numbers(unittest.TestCase):
    def test_durations_have_three_digits(self):
        for seconds, text in [(165.57, "166 s"), (1.0, "1.00 s"), (0.0123, "12.3 ms"), (4.2e-7, "0.42 µs")]:
            self.assertEqual(report.duration(seconds), text)

    def test_quantiles_are_times_that_were_measured(self):
        times = [1.0, 2.0, 3.0, 4.0, 5.0]
        self.assertEqual([run.quantile(times, part) for part in (0, 0.1, 0.5, 0.9, 1)], [1.0, 1.0, 3.0, 5.0, 5.0])

    def test_load_is_what_others_used_of_all_cores(self):
        cores = machine.os.cpu_count()
        before, after = machine.Load(10.0, 100.0, 5.0), machine.Load(12.0, 100.0 + 2 * cores, 5.0 + cores)
        self.assertAlmostEqual(before.by_others(after), 0.5)
        self.assertEqual(before.by_others(before), 0.0)


class Answers(unittest.TestCase):
    def start(self, code):
        command = [sys.executable, "-c", code]
        pipes = {"stdin": run.subprocess.PIPE, "stdout": run.subprocess.PIPE}
        return run.subprocess.Popen(command, text=True, bufsize=1, **pipes)

    def test_a_line_is_an_answer(self):
        process = self.start("print('{\"seconds\": [1.0]}', flush=True); import sys; sys.stdin.readline()")
        self.assertEqual(run.read_answer(process), {"seconds": [1.0]})
        run.end(process)

    def test_an_engine_that_ends_has_failed(self):
        for code, why in [("raise SystemExit(3)", "with code 3"), ("import os; os.abort()", "by signal 6")]:
            process = self.start(code)
            with self.assertRaisesRegex(run.Failed, why):
                run.read_answer(process)
            run.end(process)


if __name__ == "__main__":
    unittest.main()
