#!/usr/bin/env python3
"""Compares the projection engine with the naive model on random definitions and events.

Every case is a definition (`definition.yaml`), events (`events.ndjson`) and what the model makes of them
(`expected.json`). The engine is driven through `outrigger projection test`, which runs offline. Compared are all
documents, numbers by their kind and value, and the position of the event at which the run stopped, if it did. The
last check runs one definition full of macros over maps in 20 processes and wants the same bytes 20 times.

The last line is `N passed, N failed`; a failed case is kept and its command printed.
"""

import argparse
import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from generate import Events, definition
from model import EvaluationError, parse_json
from projection import Projection

PROCESSES = 20
REPORTED_MAX = 5


def make_case(seed, folder):
    """Writes the three files of a case; returns what the model expects."""
    rng = random.Random(seed)
    made = definition(rng, seed)
    source = Events(rng)
    streams = ["s1", "s2", "s/3 ä"]
    projection, failed, lines, revisions = Projection(made), None, [], {}
    for position in range(1, rng.randrange(2, 50)):
        kind, data = source.event()
        stream = rng.choice(streams)
        revisions[stream] = revisions.get(stream, 0) + 1
        identity = str(uuid.UUID(int=rng.getrandbits(128) | 1))
        head = json.dumps({"id": identity, "type": kind, "stream": stream}, ensure_ascii=False)
        lines.append(f'{head[:-1]}, "data": {data}}}')
        event = {"type": kind, "stream": stream, "position": position, "revision": revisions[stream], "id": identity}
        event["data"] = parse_json(data)
        if failed is None:
            try:
                projection.apply(event)
            except EvaluationError as error:
                failed = {"position": position, "why": str(error)}
    expected = {"documents": texts_of(projection.documents), "failed": failed}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "definition.yaml").write_text(made.yaml(rng), encoding="utf-8")
    (folder / "events.ndjson").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False), encoding="utf-8")
    return expected


def texts_of(documents):
    """Documents by the text of their key."""
    return {name: {key_text(key): value for key, value in found.items()} for name, found in documents.items()}


def key_text(key):
    parts = [part for _, part in key]
    if len(parts) == 1 and isinstance(parts[0], str):
        return parts[0]
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


# ---- the engine -----------------------------------------------------------------------------------------------------


class Stopped(Exception):
    """The engine refused an event."""

    def __init__(self, position, message):
        super().__init__(message)
        self.position = position


class EngineError(Exception):
    """The engine did something that it never may."""


def sorted_fields(pairs):
    names = [name for name, _ in pairs]
    if names != sorted(set(names)):
        raise EngineError(f"fields are not in order, each once: {names}")
    return dict(pairs)


def run_engine(binary, folder, events):
    """The printed bytes, or `Stopped`."""
    command = [binary, "projection", "test", "definition.yaml", "--events", events, "--output", "json"]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    if done.returncode == 0:
        return done.stdout
    message = done.stderr.decode(errors="replace").strip()
    place = re.search(rf"{re.escape(events)}:(\d+):\d+: ", message)
    if done.returncode != 1 or not place:
        raise EngineError(f"exit code {done.returncode}: {message}")
    raise Stopped(int(place.group(1)), message)


def read_documents(output, collections):
    documents = {name: {} for name in collections}
    for line in output.decode().splitlines():
        # The line's own fields have their own order; the document inside must be in canonical form.
        outer = json.loads(line)
        inner = line[line.index('"value":') + len('"value":') : -1]
        key = outer["key"]
        text = key if isinstance(key, str) else json.dumps(key, ensure_ascii=False, separators=(",", ":"))
        documents[outer["collection"]][text] = json.loads(inner, object_pairs_hook=sorted_fields)
    return documents


def difference(expected, found, path=""):
    """The first place where two values differ, in words; None where they are the same."""
    if type(expected) is not type(found):
        return f"{path}: expected {expected!r}, found {found!r}"
    if isinstance(expected, dict):
        if expected.keys() != found.keys():
            return f"{path}: expected the fields {sorted(expected)}, found {sorted(found)}"
        return next(filter(None, (difference(expected[key], found[key], f"{path}/{key}") for key in expected)), None)
    if isinstance(expected, list) and len(expected) == len(found):
        return next(filter(None, (difference(a, b, f"{path}/{at}") for at, (a, b) in enumerate(zip(expected, found)))), None)
    return None if repr(expected) == repr(found) else f"{path}: expected {expected!r}, found {found!r}"


def compare(binary, folder, expected):
    """What is wrong with the engine's run of a case; None where nothing is."""
    failed = expected["failed"]
    try:
        output = run_engine(binary, folder, "events.ndjson")
        if failed:
            return f"expected a stop at event {failed['position']} ({failed['why']}), found none"
    except Stopped as stopped:
        if not failed:
            return f"expected no stop, found one: {stopped}"
        if stopped.position != failed["position"]:
            return f"expected a stop at event {failed['position']} ({failed['why']}), found {stopped}"
        lines = (folder / "events.ndjson").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / "before.ndjson").write_text("".join(lines[: stopped.position - 1]), encoding="utf-8")
        output = run_engine(binary, folder, "before.ndjson")
    return difference(expected["documents"], read_documents(output, expected["documents"]))


def run_case(binary, seed, folder):
    """The seed, and what is wrong if anything is; what remains is the folder of a case that failed."""
    try:
        problem = compare(binary, folder, make_case(seed, folder))
    except Exception as error:  # whatever it is, it is this case that failed
        problem = f"{type(error).__name__}: {error}"
    if problem is None:
        shutil.rmtree(folder)
    return seed, problem


# ---- the same in every process ----------------------------------------------------------------------------------------

MAPS_DEFINITION = """
projection: maps
version: 1
collections: { all: {} }
events:
  made:
    - merge: all
      key: data.key
      value:
        keys: "${data.map.map(k, k)}"
        some: "${data.map.filter(k, data.map[k] > 0)}"
        text: "${data.map.map(k, k + '=' + string(data.map[k])).join(';')}"
        any: "${data.map.exists(k, data.map[k] == 0)}"
        each: "${data.map.all(k, data.map[k] != 0)}"
        sum: "${data.map.map(k, data.map[k] * 0.1).sum()}"
        copy: "${data.map}"
"""


def same_in_every_process(binary, folder):
    """Runs macros over maps in many processes; what they print must be the same bytes."""
    rng = random.Random(20)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "definition.yaml").write_text(MAPS_DEFINITION, encoding="utf-8")
    with open(folder / "events.ndjson", "w", encoding="utf-8") as file:
        for number in range(30):
            names = [f"key{rng.randrange(10**6)}" for _ in range(40)]
            data = {"key": f"k{number % 10}", "map": {name: rng.uniform(-1, 1) for name in names}}
            identity = str(uuid.UUID(int=rng.getrandbits(128) | 1))
            file.write(json.dumps({"id": identity, "type": "made", "stream": "s", "data": data}) + "\n")
    hashes = {hashlib.sha256(run_engine(binary, folder, "events.ndjson")).hexdigest() for _ in range(PROCESSES)}
    found = read_documents(run_engine(binary, folder, "events.ndjson"), ["all"])["all"]
    if len(found) != 10:
        return f"expected 10 documents, found {len(found)}"
    if any(document["keys"] != sorted(document["copy"]) for document in found.values()):
        return "the keys of a map are not visited in order"
    if len(hashes) != 1:
        return f"{PROCESSES} processes printed {len(hashes)} different results"
    shutil.rmtree(folder)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="the outrigger to test")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (%(default)s)")
    parser.add_argument("--cases", type=int, default=300, help="how many seeds (%(default)s)")
    parser.add_argument("--keep", type=Path, help="where failed cases are kept (default: a temporary folder)")
    options = parser.parse_args()
    keep = options.keep or Path(tempfile.mkdtemp(prefix="outrigger-model-"))
    shutil.rmtree(keep, ignore_errors=True)
    binary = str(Path(options.binary).resolve())
    seeds = range(options.seed, options.seed + options.cases)
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda seed: run_case(binary, seed, keep / str(seed)), seeds))
    failures = [(seed, problem) for seed, problem in results if problem]
    for seed, problem in failures[:REPORTED_MAX]:
        print(f"seed {seed}: {problem}")
        print(f"  cd {keep / str(seed)} && {binary} projection test definition.yaml --events events.ndjson --output json")
    if len(failures) > REPORTED_MAX:
        print(f"and {len(failures) - REPORTED_MAX} more, from seed {failures[REPORTED_MAX][0]} on")
    try:
        problem = same_in_every_process(binary, keep / "maps")
    except (EngineError, Stopped) as error:
        problem = str(error)
    if problem:
        failures.append(("maps", problem))
        print(f"macros over maps: {problem}")
    print(f"{len(results) + 1 - len(failures)} passed, {len(failures)} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
