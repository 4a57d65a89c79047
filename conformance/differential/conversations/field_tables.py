"""Headers keep every type and the order of their entries (row 87)."""

from harness.codec import Typed
from harness.conversation import conversation


def round_trip(t, headers):
    c, q = t.connect(), t.name("q")
    c.call("queue.declare", queue=q)
    c.publish("", q, "m", props={"headers": headers})
    c.wait_queue(q, 1, 0)
    c.call("basic.get", queue=q)


@conversation
def integers_keep_their_width_and_sign(t):
    round_trip(t, {
        "b": Typed("b", -128), "B": Typed("B", 255), "s": Typed("s", -32768),
        "u": Typed("u", 65535), "I": Typed("I", -2**31), "i": Typed("i", 2**32 - 1),
        "l": Typed("l", -2**63)})


@conversation
def the_capital_l(t):
    round_trip(t, {"L": Typed("L", 2**63 - 1)})


@conversation
def floats_keep_their_width(t):
    round_trip(t, {"f": Typed("f", 1.5), "d": Typed("d", 0.1), "zero": Typed("d", -0.0)})


@conversation
def strings_bytes_and_voids(t):
    round_trip(t, {"S": "Grüße", "empty": "", "x": b"\x00\x01bytes", "V": None,
                   "binary": Typed("S", b"\xff\xfe")})


@conversation
def booleans_times_and_decimals(t):
    round_trip(t, {"yes": True, "no": False, "T": Typed("T", 1700000000), "D": Typed("D", (2, 314))})


@conversation
def nested_tables_and_arrays(t):
    round_trip(t, {"F": {"inner": {"deep": [1, "two", None, {"three": [True, [[]]]}]}},
                   "A": [], "empty": {}})


@conversation
def the_order_of_entries_stays(t):
    round_trip(t, {key: n for n, key in enumerate(["zz", "a", "M", "_", "b", "0", "A"])})


@conversation
def repeated_keys_stay(t):
    round_trip(t, [("a", 1), ("a", 2), ("b", 3), ("a", "x")])


@conversation
def an_empty_key_and_a_long_key(t):
    round_trip(t, {"": 1, "k" * 255: 2, "Schlüssel": 3})


@conversation
def arrays_of_every_type(t):
    round_trip(t, {"A": [Typed("b", 1), Typed("s", 2), Typed("I", 3), Typed("l", 4), Typed("f", 0.5),
                         Typed("d", 0.25), Typed("T", 5), True, None, "s", b"x", {}, []]})


@conversation
def a_large_header(t):
    round_trip(t, {f"key{n:04}": "v" * 50 for n in range(500)})


@conversation
def headers_stay_on_republish_and_return(t):
    c, headers = t.connect(), [("z", 1), ("a", [None, {"b": Typed("f", 0.5)}]), ("z", 2)]
    c.publish("", "nowhere", "m", mandatory=True, props={"headers": headers})
    c.read(1)


@conversation
def x_death_in_a_publish_is_passed_on(t):
    round_trip(t, {"x-death": [{"count": Typed("l", 1), "reason": "expired", "queue": "q"}],
                   "x-first-death-queue": "q"})
