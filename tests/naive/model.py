"""A naive model of declarative projections: what a definition makes of a list of events.

Written from the documentation, not from the engine: it evaluates its own trees (`tree.py`) and never reads CEL text.
Values are Python's: None, bool, int (64 bits), float (finite), str, list, dict with str keys, and `Optional`.
Simple beats fast here. Every refusal is an `EvaluationError`; its wording is nobody's business.
"""

import json
import math
from dataclasses import dataclass

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
KEY_PARTS_MAX = 8
TEXT_BYTES_MAX = 2**20


class EvaluationError(Exception):
    """The expression has no value for this event."""


@dataclass(frozen=True)
class Optional:
    """What `.?` gives: a value, or that there is none."""

    present: bool
    value: object = None


NONE = Optional(False)


# ---- numbers and JSON -----------------------------------------------------------------------------------------------


def parse_json(text):
    """Integers that fit 64 bits are ints, all other numbers floats."""

    def integer(digits):
        number = int(digits)
        fits = INT_MIN <= number <= INT_MAX and digits != "-0"
        return number if fits else finite(float(digits))

    return json.loads(text, parse_int=integer)


def normalized(value):
    """The value as it reads back from a stored document: integral floats that fit are ints, no optionals."""
    if isinstance(value, Optional):
        return normalized(value.value) if value.present else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and INT_MIN <= value < 2.0**63 else value
    if isinstance(value, list):
        return [normalized(item) for item in value]
    if isinstance(value, dict):
        return {key: normalized(value[key]) for key in sorted(value)}
    return value


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)


def is_text(value):
    return isinstance(value, str)


def finite(number):
    if math.isnan(number) or math.isinf(number):
        raise EvaluationError("not a finite number")
    return number


def in_64_bits(number):
    if not INT_MIN <= number <= INT_MAX:
        raise EvaluationError("integer overflow")
    return number


def bounded(text):
    """A text that an expression made."""
    if len(text.encode()) > TEXT_BYTES_MAX:
        raise EvaluationError("a text too long")
    return text


def number_text(value):
    """The text of a number as JSON has it: integral floats that fit without a point, small ones with an exponent."""
    value = normalized(value)
    if isinstance(value, int):
        return str(value)
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0").rstrip("0")
    # The value is 0.DIGITS times ten to the `point`.
    leading = len(whole) if whole != "0" else -(len(fraction) - len(fraction.lstrip("0")))
    point = leading + int(exponent or 0)
    sign = "-" if value < 0 else ""
    if -5 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if 0 < point <= 16 and point < len(digits):
        return f"{sign}{digits[:point]}.{digits[point:]}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"


# ---- operators ------------------------------------------------------------------------------------------------------


def equal(a, b):
    """Numbers by their value, texts, lists and maps by their parts; values of different kinds are not equal."""
    if is_number(a) and is_number(b):
        return a == b  # Python compares int and float exactly
    if isinstance(a, Optional) and isinstance(b, Optional):
        return a.present == b.present and equal(a.value, b.value)
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return a == b


def ordered(a, b):
    if is_number(a) and is_number(b) or is_text(a) and is_text(b) or isinstance(a, bool) and isinstance(b, bool):
        return (a > b) - (a < b)
    raise EvaluationError("no order between these")


def arithmetic(operator, a, b):
    if operator == "+" and is_text(a) and is_text(b):
        return bounded(a + b)
    if operator == "+" and isinstance(a, list) and isinstance(b, list):
        return a + b
    if not (is_number(a) and is_number(b)):
        raise EvaluationError(f"{operator} of something else than numbers")
    if is_int(a) and is_int(b):
        return in_64_bits(integer_arithmetic(operator, a, b))
    try:
        a, b = float(a), float(b)
        if operator == "+":
            return finite(a + b)
        if operator == "-":
            return finite(a - b)
        if operator == "*":
            return finite(a * b)
        if operator == "/":
            return finite(a / b)
    except (OverflowError, ZeroDivisionError):
        pass
    raise EvaluationError(f"{operator} of these numbers")


def integer_arithmetic(operator, a, b):
    if operator == "+":
        return a + b
    if operator == "-":
        return a - b
    if operator == "*":
        return a * b
    if b == 0:
        raise EvaluationError("division by zero")
    quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return quotient if operator == "/" else a - b * quotient
