"""The projection of examples/airport from YAML, from the Rust handler and from the Python handler: the same content hash.

    compare.py --binary target/debug/outrigger --rust target/debug/examples/handler EVENTS...

Starts a node with the YAML as version 1, the Rust handler (two workers) and the Python handler (one) as versions 2 and 3,
loads the events, kills the Python handler after each file, and compares. Prints the hashes, and how long after the beginning of
loading each version had all events, while all of them work at the same time. Needs grpcio, and the stubs on the path (examples/handlers/python/generate.py).
"""

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HANDLER = ROOT / "examples/handlers/python/handler.py"
# The longest that a query may wait.
WAIT_SECONDS = 60

import grpc  # noqa: E402
from outrigger.v1 import (  # noqa: E402
    event_log_pb2,
    event_log_pb2_grpc,
    projections_pb2 as pb,
    projections_pb2_grpc,
    query_pb2,
    query_pb2_grpc,
)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--rust", required=True)
    parser.add_argument("events", nargs="+")
    options = parser.parse_args()
    processes = []
    with tempfile.TemporaryDirectory() as directory:
        try:
            hashes = compare(options, directory, processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()
    for version, (found, seconds) in sorted(hashes.items()):
        print(f"version {version}: {found} after {seconds:.1f} s")
    if len({found for found, _ in hashes.values()}) != 1 or len(hashes) != 3:
        sys.exit("the three versions do not have the same documents")


def compare(options, directory, processes):
    serve = [options.binary, "serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", directory]
    serve += ["--projection", str(ROOT / "examples/airport/projections/departures-v1.yaml")]
    node = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
    processes.append(node)
    words = node.stdout.readline().split()
    addr = words[words.index("grpc") + 1]

    def handler(command, version, worker):
        command = command + ["--addr", addr, "--version", str(version), "--worker", worker]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        line = process.stdout.readline()
        assert line.startswith("attached"), line
        return process

    for worker in ("rust-1", "rust-2"):
        handler([options.rust], 2, worker)
    python = [sys.executable, "-B", str(HANDLER)]
    first = handler(python, 3, "python-1")
    load = [options.binary, "load", "--addr", addr]
    begun = time.monotonic()
    for events in options.events:
        subprocess.run(load + [events], check=True)
        # In the middle of its work, or at its end: another one goes on.
        first.kill()
        first = handler(python, 3, "python-2")
    channel = grpc.insecure_channel(addr)
    at_least = event_log_pb2_grpc.EventLogStub(channel).GetHead(event_log_pb2.GetHeadRequest()).token

    def show():
        stub = projections_pb2_grpc.ProjectionsStub(channel)
        shown = stub.GetProjection(pb.GetProjectionRequest(projection="departures"))
        return {version.version: version for version in shown.versions}

    def wait(version):
        """Until the version has all events; one that comes no further in the time of a query has failed."""
        while True:
            before = show()[version].position
            options = query_pb2.ReadOptions(version=version, at_least=at_least)
            options.timeout.seconds = WAIT_SECONDS
            request = query_pb2.ListRequest(projection="departures", collection="totals", options=options)
            try:
                query_pb2_grpc.QueryStub(channel).List(request)
                return time.monotonic() - begun
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED or show()[version].position == before:
                    raise

    versions = (1, 2, 3)
    with ThreadPoolExecutor(len(versions)) as pool:
        seconds = dict(zip(versions, pool.map(wait, versions)))
    return {number: (found.content_hash, seconds[number]) for number, found in show().items()}


if __name__ == "__main__":
    main()
