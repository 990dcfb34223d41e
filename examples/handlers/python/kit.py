"""A worker of a handler: attaches, keeps what it has seen of documents, answers runs of events.

It owns the protocol of `Projections.Process` from the worker's side: documents that events need are read for a whole run
at once; what the worker wrote itself lies over what it has read; what is taken back is forgotten. What events do is said
by a projector, an object with

    reads(event, data) -> list of (collection, key)
    handle(event, data, documents, changes)      documents: those of `reads`, each a dict or None

where a key is a text, an integer, a boolean or a tuple of such. `handle` calls put, merge, add, delete and emit of
`changes`; an exception is a failure of the event.
"""

import json
import queue
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "generated"))

import grpc  # noqa: E402
from outrigger.v1 import common_pb2, event_log_pb2, projections_pb2 as pb, projections_pb2_grpc  # noqa: E402

READ_DOCUMENTS_MAX = 1_000
REMEMBERED_MAX = 200_000


class Changes:
    """What one event does."""

    def __init__(self):
        self.steps = []
        self.emits = []

    def put(self, collection, key, value):
        self.steps.append(("put", collection, key, value))

    def merge(self, collection, key, fields):
        self.steps.append(("merge", collection, key, fields))

    def add(self, collection, key, fields):
        self.steps.append(("add", collection, key, fields))

    def delete(self, collection, key):
        self.steps.append(("delete", collection, key, None))

    def emit(self, event_type, stream, data, tags=()):
        text = json.dumps(data).encode()
        self.emits.append(event_log_pb2.NewEvent(type=event_type, stream=stream, data=text, tags=tags))


class Cancelled(Exception):
    """What was given was taken back."""


class Worker:
    def __init__(self, channel, attach):
        self.said = queue.SimpleQueue()
        self.runs = []
        self.seen = {}  # (collection, key) -> (position or None, document or None)
        self.request = 0
        self.answered = 0
        self.said.put(pb.ProcessRequest(attach=attach))
        self.told = projections_pb2_grpc.ProjectionsStub(channel).Process(iter(self.said.get, None))
        first = next(self.told)
        if first.WhichOneof("content") != "attached":
            raise RuntimeError(f"expected to be attached, found {first}")

    def work(self, projector):
        """Handles runs until the node ends the call, which raises grpc.RpcError unless the end is a good one."""
        try:
            while True:
                while not self.runs:
                    self.take(next(self.told))
                try:
                    self.answer(self.runs.pop(0), projector)
                except Cancelled:
                    pass
        except StopIteration:
            pass
        finally:
            self.said.put(None)

    def answer(self, run, projector):
        data = [json.loads(event.data) for event in run.events]
        needs = [projector.reads(event, value) for event, value in zip(run.events, data)]
        self.read({place for places in needs for place in places})
        transactions = [
            self.handle(run.run, event, value, places, projector)
            for event, value, places in zip(run.events, data, needs)
        ]
        self.said.put(pb.ProcessRequest(transactions=pb.Transactions(transactions=transactions)))
        self.answered += len(transactions)

    def handle(self, run, event, data, places, projector):
        transaction = pb.Transaction(run=run, position=event.position)
        for collection, key in places:
            position, _ = self.seen[collection, key]
            transaction.reads.add(collection=collection, key=wire_key(key), position=position)
        changes = Changes()
        try:
            projector.handle(event, data, [self.seen[place][1] for place in places], changes)
        except Exception as error:  # whatever it is, it concerns this event
            return pb.Transaction(run=run, position=event.position, failure=f"{type(error).__name__}: {error}")
        for operation, collection, key, value in changes.steps:
            self.remember_own(event.position, operation, collection, key, value)
            step = transaction.steps.add(collection=collection, key=wire_key(key))
            if operation == "merge":
                step.merge.fields = json.dumps(value).encode()
            elif operation == "delete":
                step.delete.SetInParent()
            else:
                setattr(step, operation, json.dumps(value).encode())
        transaction.emits.extend(changes.emits)
        return transaction

    def read(self, places):
        """Reads what is needed and not remembered."""
        if len(self.seen) > REMEMBERED_MAX:
            self.seen.clear()
        missing = [place for place in places if place not in self.seen]
        for begin in range(0, len(missing), READ_DOCUMENTS_MAX):
            asked = missing[begin : begin + READ_DOCUMENTS_MAX]
            self.request += 1
            read = pb.ReadDocuments(request=self.request)
            for collection, key in asked:
                read.documents.add(collection=collection, key=wire_key(key))
            self.said.put(pb.ProcessRequest(read=read))
            for place, found in zip(asked, self.documents()):
                if found.HasField("value"):
                    self.seen[place] = (found.position, json.loads(found.value))
                else:
                    self.seen[place] = (None, None)

    def documents(self):
        """The answer to the last read; other things may come before it."""
        while True:
            told = next(self.told)
            content = told.WhichOneof("content")
            if content == "documents" and told.documents.request == self.request:
                return told.documents.documents
            self.take(told)
            if content == "cancelled":
                raise Cancelled

    def take(self, told):
        content = told.WhichOneof("content")
        if content == "run":
            self.runs.append(told.run)
        elif content == "cancelled":
            # What was given so far was taken back, and what is remembered may be wrong.
            self.runs.clear()
            self.seen.clear()

    def remember_own(self, position, operation, collection, key, value):
        """What the worker writes lies over what it has read."""
        if (collection, key) not in self.seen:
            return
        document = self.seen[collection, key][1]
        if operation == "delete":
            self.seen[collection, key] = (None, None)
            return
        if operation == "put":
            document = dict(value)
        elif operation == "merge":
            document = {**(document or {}), **value}
        else:
            document = dict(document or {})
            for name, increment in value.items():
                document[name] = document.get(name, 0) + increment
        self.seen[collection, key] = (position, document)


def wire_key(key):
    parts = key if isinstance(key, tuple) else (key,)
    return common_pb2.Key(parts=[wire_part(part) for part in parts])


def wire_part(part):
    if isinstance(part, bool):
        return common_pb2.KeyPart(boolean=part)
    if isinstance(part, int):
        return common_pb2.KeyPart(integer=part)
    return common_pb2.KeyPart(text=part)


def connect(addr):
    # A node that is gone without a word is noticed.
    options = [("grpc.keepalive_time_ms", 10_000), ("grpc.max_receive_message_length", 8 << 20)]
    return grpc.insecure_channel(addr, options=options)
