#!/usr/bin/env python3
"""Compares the projection engine with the naive model on random definitions and events.

Every case is a definition (`definition.yaml`), events (`events.ndjson`) and what the model makes of them
(`expected.json`). The engine is driven through `outrigger projection test`, which runs offline. Compared are all
documents, numbers by their kind and value, and the position of the event at which the run stopped, if it did. The
last check runs one definition full of macros over maps in 20 processes and wants the same bytes 20 times.

The last line is `N passed, N failed`; a failed case is kept and its command printed.
"""

import argparse
import json
import random
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
