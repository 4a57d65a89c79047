#!/usr/bin/env python3
"""Tests of the differential test's own parts: the codec and the comparison."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import codec, compare  # noqa: E402
from harness.codec import Typed  # noqa: E402
from harness.transcript import Transcript, render_table  # noqa: E402


def difference(rabbitmq, leveret, stream=None):
    return compare.Difference("a/b", rabbitmq, leveret, stream, "reason")


class Codec(unittest.TestCase):
    def test_a_table_keeps_types_and_order(self):
        table = [("z", 1), ("a", Typed("l", 2)), ("n", None), ("f", {"x": [True, "s", b"b"]})]
        decoded = codec.Reader(codec.encode_table(table)).table()
        self.assertEqual(
            render_table(decoded), "{z:I=1, a:l=2, n:V=None, f:F={x:A=[t=True, S='s', x='b']}}")

    def test_bits_share_octets(self):
        payload = codec.method_payload("queue.declare", {"queue": "q", "durable": 1, "nowait": 1})
        self.assertEqual(payload, b"\0\x32\0\x0a\0\0\x01q\x12\0\0\0\0")
        name, fields = codec.decode_method(payload)
        self.assertEqual((name, dict(fields)["durable"], dict(fields)["exclusive"]),
                         ("queue.declare", 1, 0))

    def test_surplus_bytes_are_shown(self):
        fields = codec.decode_method(codec.method_payload("tx.select-ok", {}) + b"x")[1]
        self.assertEqual(fields, [("surplus_bytes", "x")])

    def test_properties_come_back_in_order(self):
        payload = codec.header_payload(3, {"type": "t", "content_type": "c", "priority": 0})
        self.assertEqual(codec.decode_header(payload),
                         (60, 0, 3, [("content_type", "c"), ("priority", 0), ("type", "t")]))


class Comparison(unittest.TestCase):
    def test_equal_streams_pass(self):
        self.assertEqual(compare.compare({"1.1": ["a"]}, {"1.1": ["a"], "1.0": []}, []), [])

    def test_any_unlisted_difference_fails(self):
        for ours in ({"1.1": ["b"]}, {"1.1": []}, {"1.1": ["a", "a"]}, {"1.2": ["a"]}):
            self.assertTrue(compare.compare({"1.1": ["a"]}, ours, []), ours)

    def test_the_order_within_a_stream_counts(self):
        self.assertTrue(compare.compare({"1.1": ["a", "b"]}, {"1.1": ["b", "a"]}, []))

    def test_a_listed_difference_passes(self):
        theirs, ours = {"1.1": ["x old y", "z"]}, {"1.1": ["x new y", "z"]}
        self.assertEqual(compare.compare(theirs, ours, [difference("old", "new")]), [])

    def test_listed_lines_are_replaced_as_a_run(self):
        theirs, ours = {"1.1": ["a", "b", "c"]}, {"1.1": ["a", "d"]}
        listed = [difference(["b", "c"], ["d"], "1.1")]
        self.assertEqual(compare.compare(theirs, ours, listed), [])
        self.assertTrue(compare.compare(theirs, {"1.1": ["a", "d", "c"]}, listed))

    def test_lines_may_be_added_to_a_stream(self):
        listed = [difference([], ["more"], "1.2")]
        self.assertEqual(compare.compare({"1.1": ["a"]}, {"1.1": ["a"], "1.2": ["more"]}, listed), [])

    def test_a_listed_difference_that_does_not_occur_fails(self):
        theirs = {"1.1": ["x old y"]}
        self.assertIn("did not occur", compare.compare(theirs, theirs, [difference("old", "new")])[0])

    def test_a_listed_difference_that_rabbitmq_does_not_show_fails(self):
        self.assertIn("does not occur in RabbitMQ's", compare.compare(
            {"1.1": ["a"]}, {"1.1": ["a"]}, [difference("old", "new")])[0])

    def test_malformed_entries_are_refused(self):
        for text in ('rabbitmq = "a"\nleveret = "b"', 'rabbitmq = "a"\nleveret = ["b"]\nreason = "r"',
                     'rabbitmq = "a"\nleveret = "a"\nreason = "r"'):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "list.toml"
                path.write_text(f'[[difference]]\nconversation = "a/b"\n{text}\n')
                with self.assertRaises(ValueError):
                    compare.load_differences(path)


class Names(unittest.TestCase):
    def test_generated_names_are_numbered_by_first_appearance(self):
        transcript, first = Transcript(), "amq.gen-" + "a" * 22
        for name in (first, "amq.gen-" + "b_" * 11, first):
            transcript.heard(1, 1, f"queue='{name}'")
        self.assertEqual(transcript.streams["1.1"], [
            "queue='<generated amq.gen-1>'", "queue='<generated amq.gen-2>'",
            "queue='<generated amq.gen-1>'"])

    def test_names_of_another_shape_stay(self):
        transcript = Transcript()
        transcript.heard(1, 1, "queue='amq.gen-short' tag='amq.ctag-" + "a" * 23 + "'")
        self.assertNotIn("<generated", transcript.streams["1.1"][0])


if __name__ == "__main__":
    unittest.main()
