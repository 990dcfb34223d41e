"""The functions of the language that the model knows: global functions by name, methods with the receiver first."""

import math
import re

from model import EvaluationError, arithmetic, equal, finite, in_64_bits, is_int, is_number, is_text
from model import bounded, number_text, ordered


def expect(condition):
    if not condition:
        raise EvaluationError("a function of something that it does not take")


def size(value):
    expect(isinstance(value, (str, list, dict)))
    return len(value)


def to_int(value):
    if isinstance(value, float):
        return in_64_bits(math.trunc(value))
    if is_text(value):
        digits = value[1:] if value[:1] == "-" else value
        expect(digits.isascii() and digits.isdigit())
        return in_64_bits(int(value))
    expect(is_int(value))
    return value


NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def to_double(value):
    expect(is_number(value) or is_text(value) and NUMBER.fullmatch(value))
    return finite(float(value))


def to_string(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value):
        return number_text(value)
    expect(is_text(value))
    return value


def texts(function):
    """A method of a text with texts as arguments."""

    def method(*arguments):
        expect(all(is_text(argument) for argument in arguments))
        return function(*arguments)

    return method


def of_list(function):
    """A method of a list."""

    def method(receiver, *arguments):
        expect(isinstance(receiver, list))
        return function(receiver, *arguments)

    return method


def reverse(value):
    expect(isinstance(value, (str, list)))
    return value[::-1]


def join(items, separator=""):
    expect(is_text(separator) and all(is_text(item) for item in items))
    return bounded(separator.join(items))


def distinct(items):
    kept = []
    for item in items:
        if not any(equal(item, other) for other in kept):
            kept.append(item)
    return kept


def sort(items):
    """Insertion from the left; equal ones keep their order."""
    expect(all(map(is_number, items)) or all(map(is_text, items)) or all(isinstance(item, bool) for item in items))
    out = []
    for item in items:
        at = len(out)
        while at > 0 and ordered(item, out[at - 1]) < 0:
            at -= 1
        out.insert(at, item)
    return out


def total(items):
    value = 0
    for item in items:
        expect(is_number(item))
        value = arithmetic("+", value, item)
    return value


def extreme(sign):
    def function(*items):
        best = items[0]
        for item in items[1:]:
            if ordered(item, best) * sign > 0:
                best = item
        return best

    return function


def extreme_of_list(sign):
    def function(items):
        expect(items)
        return extreme(sign)(*items)

    return function


def extreme_of_numbers(sign):
    def function(*items):
        if len(items) == 1 and isinstance(items[0], list):
            items = items[0]
        expect(items and all(is_number(item) for item in items))
        return extreme(sign)(*items)

    return function


def number(function):
    def of_number(value):
        expect(is_number(value))
        return function(value)

    return of_number


def absolute(value):
    return in_64_bits(abs(value)) if is_int(value) else abs(value)


def rounding(function):
    def rounded(value):
        return value if is_int(value) else float(function(value))

    return number(rounded)


def half_away_from_zero(value):
    floor = math.floor(abs(value))
    whole = floor + (1 if abs(value) - floor >= 0.5 else 0)
    return math.copysign(whole, value)


def sign(value):
    return (value > 0) - (value < 0)


def split(text, separator):
    if separator == "":
        return list(text)
    return text.split(separator)


FUNCTIONS = {
    "size": size,
    "int": to_int,
    "double": to_double,
    "string": to_string,
    "math.greatest": extreme_of_numbers(1),
    "math.least": extreme_of_numbers(-1),
    "math.abs": number(absolute),
    "math.ceil": rounding(math.ceil),
    "math.floor": rounding(math.floor),
    "math.trunc": rounding(math.trunc),
    "math.round": rounding(half_away_from_zero),
    "math.sign": number(sign),
}

METHODS = {
    "size": size,
    "startsWith": texts(str.startswith),
    "endsWith": texts(str.endswith),
    "contains": texts(lambda text, part: part in text),
    "lowerAscii": texts(lambda text: "".join(c.lower() if c.isascii() else c for c in text)),
    "upperAscii": texts(lambda text: "".join(c.upper() if c.isascii() else c for c in text)),
    "split": texts(split),
    "replace": texts(lambda text, old, new: bounded(text.replace(old, new))),
    "indexOf": texts(str.find),
    "reverse": reverse,
    "join": of_list(join),
    "distinct": of_list(distinct),
    "sort": of_list(sort),
    "sum": of_list(total),
    "min": of_list(extreme_of_list(-1)),
    "max": of_list(extreme_of_list(1)),
}
