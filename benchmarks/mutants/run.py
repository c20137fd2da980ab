"""Mutation testing: faults are planted one at a time, and one of the tests that run the line should fail.

    python benchmarks/mutants/run.py --n 160 --seed 4

A fault is a swapped operator, a comparison turned or off by one, a changed constant or axis, another or no function, a dropped
argument, a swapped pair of results (`faults.py`). n of them are drawn from all of the numerical files with the seed. Which test runs
which line is measured once per version of the sources and tests, with coverage; tests marked slow are left out. A fault counts as
caught when a test fails, the process dies or the time is up; those that change nothing are listed in `equivalent.yaml` with the
reason and do not count.

Everything happens in copies of the repository in .mutants/. A run that was ended goes on where it was; faults that survived are tried
again. Why no library: mutmut and cosmic-ray draw no seeded sample and choose no tests by measured lines and time.
"""

import argparse
import hashlib
import json
import os
import random
import sys
from collections import Counter
from importlib.util import cache_from_source
from pathlib import Path

import yaml
from faults import Fault, faults_of, planted
from trees import ROOT, fresh_tree, preload, run_tests

ROOMS = ("data", "uncertainty", "model", "posterior", "train", "evaluate", "interfaces", "md")
NO_NUMBERS = {  # files, names of keys, devices, messages, imports
    "data/files.py", "data/hashes.py", "uncertainty/storage.py", "uncertainty/predictor.py", "model/compiled.py", "model/config.py",
    "model/e3nn_import.py", "model/hardware.py", "posterior/base.py", "posterior/checkpoint.py", "posterior/formats.py", "train/config.py",
    "train/config_errors.py", "train/context.py", "train/files.py", "md/log.py", "md/run.py",
}  # fmt: skip
PLACE = ROOT / ".mutants"
FIRST = 12  # tests


def numerical_files() -> list[str]:
    found = (str(path.relative_to(ROOT / "race_calc")) for room in ROOMS for path in sorted((ROOT / "race_calc" / room).glob("*.py")))
    return [name for name in found if name not in NO_NUMBERS]


def measured_tests() -> dict:
    """{"seconds": test → s, "lines": file → line → tests}, kept for this version of the sources and tests."""
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "race_calc").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]):
        digest.update(path.read_bytes())
    kept = PLACE / f"tests-{digest.hexdigest()[:16]}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    from coverage import CoverageData

    print("measuring which test runs which line", flush=True)
    tree, data = fresh_tree(PLACE / "measure"), PLACE / "coverage"
    data.unlink(missing_ok=True)
    os.environ["COVERAGE_FILE"] = str(data)
    done = run_tests(tree, ["--cov=race_calc", "--cov-context=test", "--cov-report=", "-m", "not slow"], 3600.0)
    if not done["seconds"]:
        sys.exit(f"the tests do not run, see {PLACE / 'measure.log'}")
    for name in done["failed"]:
        print(f"fails without a fault and is left out: {name}")
        done["seconds"].pop(name, None)
    covered = CoverageData(str(data))
    covered.read()
    lines = {}
    for path in covered.measured_files():
        lines[str(Path(path).relative_to(tree))] = {n: sorted(set(c) - {""}) for n, c in covered.contexts_by_lineno(path).items()}
    found = {"seconds": done["seconds"], "lines": lines}
    kept.write_text(json.dumps(found))
    return json.loads(kept.read_text())


def tests_for(measured: dict, name: str, fault: Fault, limit: float) -> list[str]:
    """Tests that run the lines of the fault, `limit` seconds of them; of what the import runs, all of the file. A
    fixture that runs them stands for all tests of its file. Fast ones come first, those of the file and of its room even earlier."""
    lines = measured["lines"].get(f"race_calc/{name}", {})
    contexts = {context for line in range(fault.statement, fault.line + 1) for context in lines.get(str(line), ())}
    if not contexts or not fault.where:
        contexts = {context for of_line in lines.values() for context in of_line}
    chosen = {context.rpartition("|")[0] for context in contexts}
    files = {context.partition("::")[0] for context in contexts if context.endswith("|setup")}
    chosen |= {test for test in measured["seconds"] if test.partition("::")[0] in files}
    room, stem = Path(name).parent.name, Path(name).stem

    def late(test: str) -> float:
        near = 0.05 if f"test_{stem}.py" in test else 0.2 if test.startswith(f"tests/{room}/") else 1.0
        return near * (measured["seconds"][test] + 0.01)

    order, total = [], 0.0
    for test in sorted(chosen & measured["seconds"].keys(), key=late):
        total += measured["seconds"][test]
        if total > limit and order:
            break
        order.append(test)
    return order


def key_of(name: str, fault: Fault) -> str:
    """The same as long as the function is: for `equivalent.yaml` too."""
    return f"{name} {fault.where or 'module'}: {' '.join(fault.before.split())} → {' '.join(fault.after.split())}"


def write(path: Path, text: str) -> None:
    """The file and no compiled one of it, whose time and size may be those of the old text."""
    path.write_text(text)
    Path(cache_from_source(str(path))).unlink(missing_ok=True)


def work(share: list[tuple[str, Fault]], number: int, measured: dict, results: Path, limit: float) -> None:
    tree = fresh_tree(PLACE / f"tree-{number}")
    for name, fault in share:
        done: dict = {"exit": 0, "failed": []}
        path = tree / "race_calc" / name
        original = path.read_text()
        tests = tests_for(measured, name, fault, limit)
        write(path, planted(original, fault))
        for part in filter(None, (tests[:FIRST], tests[FIRST:])):  # most are caught by the first, without reading other files
            done = run_tests(tree, ["-x", *part], 60.0 + 5.0 * sum(measured["seconds"][test] for test in part))
            if done["exit"] != 0:
                break
        write(path, original)
        record = {
            "fault": key_of(name, fault), "line": fault.statement, "start": fault.start, "tests": len(tests),
            "caught": done["exit"] != 0, "exit": done["exit"], "by": done["failed"][:1],
            "file": hashlib.sha256(original.encode()).hexdigest(),
        }  # fmt: skip
        with open(results, "a") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=160, help="how many faults are drawn")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=40.0, help="of tests for a fault, at most")
    parser.add_argument("--files", nargs="*", help="only these, as uncertainty/metrics.py")
    given = parser.parse_args()
    PLACE.mkdir(exist_ok=True)
    shared = ROOT.parent / "shared" / "data"
    if shared.is_dir():
        os.environ.setdefault("RACE_CALC_DATA", str(shared))
    preload()
    measured = measured_tests()
    texts = {name: (ROOT / "race_calc" / name).read_text() for name in given.files or numerical_files()}
    everything = [(name, fault) for name, text in texts.items() for fault in faults_of(text)]
    drawn = random.Random(given.seed).sample(everything, min(given.n, len(everything)))
    equivalent = yaml.safe_load((Path(__file__).parent / "equivalent.yaml").read_text())
    results = PLACE / f"seed-{given.seed}.jsonl"
    before = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    hashes = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    known = {(r["fault"], r["start"]): r for r in before if r["caught"] and r["file"] == hashes.get(r["fault"].split()[0])}
    todo = [(n, f) for n, f in drawn if (key_of(n, f), f.start) not in known and key_of(n, f) not in equivalent]
    print(f"{len(everything)} faults in {len(texts)} files, {len(drawn)} drawn, {len(todo)} to try", flush=True)
    children = []
    for number in range(given.jobs):
        child = os.fork()
        if not child:
            try:
                work(todo[number :: given.jobs], number, measured, results, given.seconds)
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    report(drawn, equivalent, [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else [])


def report(drawn: list[tuple[str, Fault]], equivalent: dict[str, str], records: list[dict]) -> None:
    last = {(r["fault"], r["start"]): r for r in records}
    told = Counter()
    for name, fault in drawn:
        key = key_of(name, fault)
        record = last.get((key, fault.start))
        state = "equivalent" if key in equivalent else "not tried" if record is None else "caught" if record["caught"] else "survived"
        told[state] += 1
        if state == "survived":
            print(f"survived: {key}  (line {fault.statement}, {record['tests']} tests)")
    counted = told["caught"] + told["survived"]
    print(dict(told))
    print(f"caught {told['caught']} of {counted}: {100 * told['caught'] / max(counted, 1):.1f} %")
    if told["not tried"]:
        sys.exit("some were not tried: run it again")


if __name__ == "__main__":
    main()
