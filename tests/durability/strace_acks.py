#!/usr/bin/env python3
"""Verifies from a strace log of the server that no append was acknowledged before it was durable.

Record the log with strings in full, requests included, then judge it:

    strace -f -yy -xx -s 16777216 -o TRACE \\
        -e trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,pwritev,pwritev2,fdatasync,fsync \\
        outrigger serve --data-dir DIR
    python3 tests/durability/strace_acks.py TRACE --log-files '/log/' --acks-min 100

The appended events carry marks: texts that match --mark, each used once. A mark ties the three sides together: the
request that brought it (a gRPC message on an HTTP/2 stream of a socket), the write to a log file that holds its
bytes, and the answer (the message with the same number on the same stream of the same socket). The rule: when the
answer's send begins, an fdatasync or fsync of that file has returned 0 which began after that write had returned.

Order is the order of the lines: strace stops a thread at the entry and at the exit of a call and writes the line
before it lets the thread go on, so a thread cannot tell another of a finished sync before its line stands. A call that
was interrupted by others (`<unfinished ...>`, `<... resumed>`) begins at its first line and ends at its second.
"""

import argparse
import re
import sys
from collections import defaultdict
from dataclasses import dataclass, field

LINE = re.compile(r"^(?:\[pid\s+(\d+)\]\s+|(\d+)\s+)?(?:\d\d:\d\d:\d\d(?:\.\d+)?\s+|\d+\.\d+\s+)?(.*)$", re.S)
RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>\s?", re.S)
CALL = re.compile(r"^(\w+)\((\d+)<(.*?)>(?=[,)])", re.S)
RESULT = re.compile(r"=\s+(-?\d+|\?)[^=\"]*$")
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(\.\.\.)?', re.S)
ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.S)
PLAIN = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f", b'"': b'"', b"\\": b"\\"}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
RECEIVES = {"read", "readv", "recvfrom", "recvmsg"}
SENDS = {"write", "writev", "sendto", "sendmsg"}
FILE_WRITES = {"write", "writev", "pwrite64", "pwritev", "pwritev2"}
SYNCS = {"fdatasync", "fsync"}


class TraceError(Exception):
    """The trace cannot be judged."""


@dataclass
class Call:
    """One system call that returned: its first and last line, what it touched, the bytes it moved."""

    name: str
    begins: int
    ends: int
    target: str
    data: bytes = b""


@dataclass
class Direction:
    """One direction of a connection: bytes not yet parsed, and the gRPC messages so far by stream."""

    rest: bytearray = field(default_factory=bytearray)
    partial: dict = field(default_factory=lambda: defaultdict(bytearray))
    messages: dict = field(default_factory=lambda: defaultdict(list))

    def feed(self, data, line):
        """Takes bytes; the messages that they complete get `line`."""
        self.rest += data
        while len(self.rest) >= 9:
            length = int.from_bytes(self.rest[:3], "big")
            if len(self.rest) < 9 + length:
                return
            kind, flags = self.rest[3], self.rest[4]
            stream = int.from_bytes(self.rest[5:9], "big") & 0x7FFFFFFF
            payload = bytes(self.rest[9 : 9 + length])
            del self.rest[: 9 + length]
            if kind != 0:
                continue
            if flags & 0x08:
                payload = payload[1 : len(payload) - payload[0]]
            partial = self.partial[stream]
            partial += payload
            while len(partial) >= 5 and len(partial) >= 5 + int.from_bytes(partial[1:5], "big"):
                end = 5 + int.from_bytes(partial[1:5], "big")
                self.messages[stream].append((line, bytes(partial[5:end])))
                del partial[:end]


def unescape(text):
    def one(found):
        code = found.group(1)
        if code[:1] == b"x":
            return bytes([int(code[1:], 16)])
        if code[:1].isdigit():
            return bytes([int(code, 8) & 0xFF])
        return PLAIN.get(code, code)

    return ESCAPE.sub(one, text.encode("latin-1"))


def calls_of(lines):
    """The finished calls on file descriptors, in order of their end."""
    open_calls = {}
    for number, line in enumerate(lines, 1):
        found = LINE.match(line.rstrip("\n"))
        thread, text = found.group(1) or found.group(2) or "", found.group(3)
        begins = number
        if text.endswith("<unfinished ...>"):
            open_calls[thread] = (number, text[: -len("<unfinished ...>")].rstrip(" "))
            continue
        resumed = RESUMED.match(text)
        if resumed:
            begins, head = open_calls.pop(thread, (None, ""))
            if begins is None or not head.startswith(resumed.group(1)):
                raise TraceError(f"line {number}: {resumed.group(1)} resumes, but never began in thread {thread}")
            text = head + text[resumed.end() :]
        call = CALL.match(text)
        result = RESULT.search(text)
        if not call or not result or result.group(1) == "?" or int(result.group(1)) < 0:
            continue
        name, target = call.group(1), unescape(call.group(3)).decode("latin-1")  # -xx writes paths in hex too
        data = b""
        if name not in SYNCS:
            data = data_of(text[call.end() :], int(result.group(1)), number)
        yield Call(name, begins, number, target, data)


def data_of(arguments, length, number):
    parts = []
    for text, cut in STRING.findall(arguments):
        if cut:
            raise TraceError(f"line {number}: a string is cut short; run strace with a larger -s")
        parts.append(unescape(text))
    return b"".join(parts)[:length]


def is_socket(target):
    return target.startswith(("TCP", "socket:", "UNIX"))


def judge(lines, log_files=r"/log/", mark=rb"durable-mark-[0-9]+"):
    """Returns (acknowledged marks, findings in words)."""
    log_file, mark = re.compile(log_files), re.compile(mark)
    received, sent = defaultdict(Direction), defaultdict(Direction)
    greeted = defaultdict(bytearray)
    written = defaultdict(list)  # mark -> [(file, line at which the write ended)]
    syncs = defaultdict(list)  # file -> [(begins, ends)]
    sends = []  # sends take effect at their beginning, so they are kept apart from the order of ends
    for call in calls_of(lines):
        if is_socket(call.target):
            connection = call.target
            if call.name in RECEIVES:
                receive(received[connection], greeted[connection], call)
            elif call.name in SENDS:
                sends.append((call.begins, connection, call.data))
        elif log_file.search(call.target):
            if call.name in SYNCS:
                syncs[call.target].append((call.begins, call.ends))
            elif call.name in FILE_WRITES:
                for found in mark.findall(call.data):
                    written[found].append((call.target, call.ends))
    for begins, connection, data in sorted(sends):
        if bytes(greeted[connection]) == PREFACE:
            sent[connection].feed(data, begins)
    return compare(received, sent, mark, written, syncs)


def receive(direction, greeting, call):
    """Takes received bytes: first the preface of HTTP/2, then frames. Other protocols stay without messages."""
    data = call.data
    if len(greeting) < len(PREFACE):
        wanted = len(PREFACE) - len(greeting)
        greeting += data[:wanted]
        data = data[wanted:]
    if bytes(greeting) == PREFACE:
        direction.feed(data, call.ends)


def compare(received, sent, mark, written, syncs):
    acknowledged, findings = 0, []
    for connection, requests in received.items():
        for stream, messages in requests.messages.items():
            answers = sent[connection].messages[stream]
            for (asked, request), (answered, _) in zip(messages, answers):
                for found in sorted(set(mark.findall(request))):
                    acknowledged += 1
                    if answered < asked:
                        findings.append(f"line {answered}: {found.decode()} was answered before it was asked")
                    elif problem := uncovered(written[found], syncs, answered):
                        findings.append(f"line {answered}: {found.decode()} was acknowledged, but {problem}")
    return acknowledged, findings


def uncovered(writes, syncs, answered):
    """Why no sync covers any of the writes before the line `answered`; None where one does."""
    if not any(ends < answered for _, ends in writes):
        return "no write to a log file held it before"
    for file, write_ends in writes:
        if any(write_ends < begins and ends < answered for begins, ends in syncs[file]):
            return None
    file, ends = writes[0]
    return f"its write to {file} (line {ends}) was not followed by a sync that began and returned in between"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", help="the file that strace wrote")
    parser.add_argument("--log-files", default="/log/", help="regular expression for paths of log files (%(default)s)")
    parser.add_argument("--mark", default="durable-mark-[0-9]+", help="regular expression for marks (%(default)s)")
    parser.add_argument("--acks-min", type=int, default=1, help="fewer acknowledged marks fail (%(default)s)")
    options = parser.parse_args()
    try:
        with open(options.trace, encoding="latin-1") as trace:
            acknowledged, findings = judge(trace, options.log_files, options.mark.encode())
    except TraceError as error:
        sys.exit(f"strace_acks: {options.trace}: {error}")
    for finding in findings:
        print(finding)
    if acknowledged < options.acks_min:
        sys.exit(f"strace_acks: expected {options.acks_min} acknowledged marks at least, found {acknowledged}")
    print(f"{acknowledged} marks acknowledged, {len(findings)} before they were durable")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
