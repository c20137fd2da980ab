"""Runs cases in child processes that may crash, hang or want too much memory, and counts what became of them."""

import argparse
import collections
import json
import multiprocessing
import resource
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

HANG = 25.0  # seconds
MEMORY = 6 * 2**30  # bytes of address space that a worker may have: torch alone takes 2
LONGEST = 1500  # characters of a message


def arguments(description: str, n: int) -> argparse.Namespace:
    """--n cases, --seed, and --log of a file to resume from."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--n", type=int, default=n)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path)
    return parser.parse_args()


def limited(work: Callable, pipe) -> None:
    """A worker: takes cases from the pipe, sends what `work` says of each."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    while (case := pipe.recv()) is not None:
        try:
            pipe.send(work(case))
        except BaseException as error:  # anything that is not the class of error that a case may end with
            pipe.send(("crash", f"{type(error).__name__}: {str(error)[:300]}"))


class Worker:
    """A child process that is made anew after it died or hung."""

    def __init__(self, work: Callable):
        self.work, self.process = work, None

    def run(self, case) -> tuple[str, str]:
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=limited, args=(self.work, theirs), daemon=True)
            self.process.start()
            theirs.close()
            self.pipe.send(None if case is None else case)
            patience = 4 * HANG  # it has to import torch first
        else:
            self.pipe.send(case)
            patience = HANG
        try:
            if self.pipe.poll(patience):
                return self.pipe.recv()
            self.stop()
            return "hang", f"longer than {HANG:g} s"
        except (EOFError, ConnectionError):
            self.process.join(5)
            code = self.process.exitcode
            self.process = None
            return "crash", f"the process died: {signal.Signals(-code).name if code and code < 0 else code}"

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


def run_cases(work: Callable, cases: Iterable[tuple[str, dict]], log: Path | None, every: int = 100) -> list[dict]:
    """Results of (group, case); those that `log` holds already are not run again."""
    done = {}
    if log is not None and log.is_file():
        done = {entry["number"]: entry for entry in map(json.loads, log.read_text().splitlines())}
    worker, results, began = Worker(work), [], time.monotonic()
    for number, (group, case) in enumerate(cases):
        if number in done:
            results.append(done[number])
            continue
        outcome, message = worker.run(case)
        entry = {"number": number, "group": group, "case": case, "outcome": outcome, "message": message}
        results.append(entry)
        if log is not None:
            with log.open("a") as file:
                file.write(json.dumps(entry) + "\n")
        if (number + 1) % every == 0:
            print(
                f"{number + 1} cases, {time.monotonic() - began:.0f} s, {dict(collections.Counter(e['outcome'] for e in results))}",
                flush=True,
            )
    worker.stop()
    return results


def table(results: list[dict], bad: tuple[str, ...], groups_with_bar: tuple[str, ...]) -> int:
    """Print outcomes by group and every bad case; returns 1 where a group with a bar has one."""
    outcomes = sorted({entry["outcome"] for entry in results} | set(bad))
    print(f"{'':14s}" + "".join(f"{name:>24s}" for name in outcomes))
    missed = 0
    for group in sorted({entry["group"] for entry in results}):
        counts = collections.Counter(entry["outcome"] for entry in results if entry["group"] == group)
        print(f"{group:14s}" + "".join(f"{counts[name]:24d}" for name in outcomes))
        missed += sum(counts[name] for name in bad) if group in groups_with_bar else 0
    for entry in results:
        if entry["outcome"] in bad:
            print(f"{entry['outcome']}: case {entry['number']} ({entry['group']}) {entry['case']}: {entry['message'][:300]}")
    return 1 if missed else 0
