"""Hand-written traces, good and bad: a judge that lets a bad one pass is broken."""

import unittest

from strace_acks import PREFACE, TraceError, judge

SOCKET = "TCP:[127.0.0.1:7400->127.0.0.1:50000]"
OTHER = "TCP:[127.0.0.1:7400->127.0.0.1:50001]"
LOG = "/data/log/1.seg"


def hexed(data):
    return '"' + "".join(f"\\x{byte:02x}" for byte in data) + '"'


def frame(stream, *messages, kind=0, flags=0):
    body = b"".join(b"\0" + len(message).to_bytes(4, "big") + message for message in messages)
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def ask(stream, *messages, thread=1, socket=SOCKET, preface=False):
    data = (PREFACE if preface else b"") + frame(stream, *messages)
    return f"{thread} 10:00:00.000001 recvfrom(9<{socket}>, {hexed(data)}, 8192, 0, NULL, NULL) = {len(data)}"


def answer(stream, *messages, thread=1, socket=SOCKET):
    """As one writev of two buffers."""
    data = frame(stream, *messages)
    buffers = f"{{iov_base={hexed(data[:9])}, iov_len=9}}, {{iov_base={hexed(data[9:])}, iov_len={len(data) - 9}}}"
    return f"{thread} 10:00:00.000002 writev(9<{socket}>, [{buffers}], 2) = {len(data)}"


def write(*marks, thread=2, file=LOG):
    data = b"\0header" + b"".join(b"record " + mark for mark in marks)
    return f"{thread} 10:00:00.000003 pwrite64(7<{file}>, {hexed(data)}, {len(data)}, 4096) = {len(data)}"


def sync(thread=2, file=LOG, result="0"):
    return f"{thread} 10:00:00.000004 fdatasync(7<{file}>) = {result}"


A, B = b"durable-mark-1", b"durable-mark-2"


class Traces(unittest.TestCase):
    def check(self, lines, acknowledged, *findings):
        found_acknowledged, found = judge(lines)
        self.assertEqual(found_acknowledged, acknowledged)
        self.assertEqual(len(found), len(findings), found)
        for message, part in zip(found, findings):
            self.assertIn(part, message)

    def test_write_sync_answer_is_good(self):
        self.check([ask(1, A, preface=True), write(A), sync(), answer(1, b"ok")], 1)

    def test_an_answer_before_the_sync_is_bad(self):
        self.check([ask(1, A, preface=True), write(A), answer(1, b"ok"), sync()], 1, "was not followed by a sync")

    def test_an_answer_without_any_write_is_bad(self):
        self.check([ask(1, A, preface=True), sync(), answer(1, b"ok")], 1, "no write to a log file")

    def test_an_answer_before_the_write_is_bad(self):
        self.check([ask(1, A, preface=True), answer(1, b"ok"), write(A), sync()], 1, "no write to a log file")

    def test_a_failed_sync_covers_nothing(self):
        lines = [ask(1, A, preface=True), write(A), sync(result="-1 EIO (Input/output error)"), answer(1, b"ok")]
        self.check(lines, 1, "was not followed by a sync")

    def test_a_sync_of_another_file_covers_nothing(self):
        lines = [ask(1, A, preface=True), write(A), sync(file="/data/log/2.seg"), answer(1, b"ok")]
        self.check(lines, 1, "was not followed by a sync")

    def test_a_write_to_another_place_is_no_log(self):
        lines = [ask(1, A, preface=True), write(A, file="/data/x"), sync(file="/data/x"), answer(1, b"ok")]
        self.check(lines, 1, "no write to a log file")

    def test_a_sync_that_began_before_the_write_returned_covers_nothing(self):
        lines = [
            ask(1, A, preface=True),
            f"3 10:00:00 fdatasync(7<{LOG}> <unfinished ...>",
            write(A),
            "3 10:00:00 <... fdatasync resumed>) = 0",
            answer(1, b"ok"),
        ]
        self.check(lines, 1, "was not followed by a sync")

    def test_a_sync_that_is_interrupted_covers_when_it_returned_before_the_answer(self):
        begun = f"2 10:00:00 fdatasync(7<{LOG}> <unfinished ...>"
        done = "2 10:00:00 <... fdatasync resumed>) = 0"
        other = "4 10:00:00 write(5<pipe:[1]>, \"\\x01\", 1) = 1"
        self.check([ask(1, A, preface=True), write(A), begun, other, done, answer(1, b"ok")], 1)
        self.check([ask(1, A, preface=True), write(A), begun, answer(1, b"ok"), done], 1, "was not followed")

    def test_a_send_counts_from_its_beginning(self):
        data = frame(1, b"ok")
        lines = [
            ask(1, A, preface=True),
            write(A),
            f"1 10:00:00 sendto(9<{SOCKET}>, {hexed(data)}, {len(data)}, MSG_NOSIGNAL, NULL, 0 <unfinished ...>",
            sync(),
            f"1 10:00:00 <... sendto resumed>) = {len(data)}",
        ]
        self.check(lines, 1, "was not followed by a sync")

    def test_a_read_that_is_interrupted_brings_its_bytes(self):
        data = PREFACE + frame(1, A)
        lines = [
            f"1 10:00:00 recvfrom(9<{SOCKET}>,  <unfinished ...>",
            sync(),
            f"1 10:00:00 <... recvfrom resumed>{hexed(data)}, 8192, 0, NULL, NULL) = {len(data)}",
            write(A),
            sync(),
            answer(1, b"ok"),
        ]
        self.check(lines, 1)
        self.check(lines[:4] + lines[5:], 1, "was not followed by a sync")

    def test_answers_of_one_stream_belong_to_requests_in_order(self):
        start = [ask(1, A, B, preface=True), write(A), sync(), answer(1, b"ok"), write(B)]
        self.check(start + [sync(), answer(1, b"ok")], 2)
        self.check(start + [answer(1, b"ok")], 2, "durable-mark-2 was acknowledged")

    def test_streams_and_sockets_are_kept_apart(self):
        lines = [
            ask(1, A, preface=True),
            ask(1, B, preface=True, socket=OTHER),
            write(B),
            sync(),
            answer(1, b"ok", socket=OTHER),
            write(A),
            sync(),
            answer(1, b"ok"),
        ]
        self.check(lines, 2)
        lines[4] = answer(1, b"ok")
        self.check(lines[:5], 1, "durable-mark-1 was acknowledged")

    def test_the_next_group_may_be_written_while_an_answer_goes_out(self):
        lines = [ask(1, A, preface=True), ask(3, B), write(A), sync(), write(B), answer(1, b"ok"), sync()]
        self.check(lines + [answer(3, b"ok")], 2)

    def test_refusals_and_other_requests_are_no_acknowledgements(self):
        headers = frame(1, b"ok", kind=1)
        refusal = f"1 10:00:00 sendto(9<{SOCKET}>, {hexed(headers)}, {len(headers)}, 0, NULL, 0) = {len(headers)}"
        self.check([ask(1, A, preface=True), refusal], 0)
        self.check([ask(1, b"a query", preface=True), answer(1, b"document")], 0)

    def test_partial_sends_and_padded_frames_are_put_together(self):
        data = frame(1, b"ok")
        first = f"1 10:00:00 sendto(9<{SOCKET}>, {hexed(data)}, {len(data)}, 0, NULL, 0) = 4"
        rest = f"1 10:00:00 sendto(9<{SOCKET}>, {hexed(data[4:])}, {len(data) - 4}, 0, NULL, 0) = {len(data) - 4}"
        self.check([ask(1, A, preface=True), write(A), sync(), first, rest], 1)
        self.check([ask(1, A, preface=True), write(A), first, rest, sync()], 1, "was not followed by a sync")
        message = b"\0\0\0\0\2ok"
        padded = (len(message) + 4).to_bytes(3, "big") + b"\0\x08\0\0\0\1\3" + message + b"\0\0\0"
        send = f"1 10:00:00 sendto(9<{SOCKET}>, {hexed(padded)}, {len(padded)}, 0, NULL, 0) = {len(padded)}"
        self.check([ask(1, A, preface=True), write(A), sync(), send], 1)

    def test_paths_in_hex_are_read(self):
        path = "".join(f"\\x{byte:02x}" for byte in LOG.encode())
        lines = [ask(1, A, preface=True), write(A, file=path), sync(file=path), answer(1, b"ok")]
        self.check(lines, 1)
        self.check(lines[:2] + lines[3:], 1, "its write to /data/log/1.seg (line 2) was not followed")

    def test_a_cut_string_and_a_lost_beginning_are_refused(self):
        with self.assertRaises(TraceError):
            judge([f'1 pwrite64(7<{LOG}>, "\\x00"..., 4096, 0) = 4096'])
        with self.assertRaises(TraceError):
            judge(["1 <... fdatasync resumed>) = 0"])


if __name__ == "__main__":
    unittest.main()
