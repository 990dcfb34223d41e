"""Evaluates expression trees. A tree is a tuple: its kind, then its parts.

    ("lit", value)                  ("var", name)
    ("field", e, name)              e.name
    ("opt_field", e, name)          e.?name
    ("index", e, i)                 e[i]
    ("opt_index", e, i)             e[?i]
    ("has", e, name)                has(e.name)
    ("or_value", e, fallback)       e.orValue(fallback)
    ("has_value", e)                e.hasValue()
    ("not", e)  ("neg", e)  ("and", a, b)  ("or", a, b)  ("cond", c, a, b)
    ("bin", operator, a, b)         + - * / % == != < <= > >= in
    ("list", [e...])                ("map", [(key, e)...])
    ("call", name, [e...])          name(e...)
    ("method", name, [e...])        e.name(e...)
    ("fold", kind, e, variable, only, body)     all, exists, exists_one, map, filter
    ("lookup", collection, key)
"""

from functions import FUNCTIONS, METHODS
from model import NONE, EvaluationError, Optional, arithmetic, equal, in_64_bits, is_int, is_number, is_text, ordered

ORDERS = {
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
}


def evaluate(tree, scope, lookup):
    """The value of a tree. `scope` holds the names, `lookup(collection, key value)` a document or None."""
    return Evaluation(lookup).value(tree, scope)


def truth(value):
    if not isinstance(value, bool):
        raise EvaluationError("expected a boolean")
    return value


def select(value, name):
    """The field of a map; through an optional, the optional field of its value."""
    if isinstance(value, Optional):
        return opt_select(value, name)
    if not isinstance(value, dict):
        raise EvaluationError("a field of something else than a map")
    if name not in value:
        raise EvaluationError(f"no field {name}")
    return value[name]


def opt_select(value, name):
    """What is no map has no field, and that is no error here."""
    if isinstance(value, Optional):
        return opt_select(value.value, name) if value.present else NONE
    return Optional(True, value[name]) if isinstance(value, dict) and name in value else NONE


def item(value, index):
    found = opt_item(value, index)
    if isinstance(value, Optional):
        return found
    if not found.present:
        raise EvaluationError("no such item")
    return found.value


def opt_item(value, index):
    if isinstance(value, Optional):
        return opt_item(value.value, index) if value.present else NONE
    if isinstance(value, list) and is_int(index) and 0 <= index < len(value):
        return Optional(True, value[index])
    if isinstance(value, dict) and is_text(index) and index in value:
        return Optional(True, value[index])
    return NONE


def contains(item, container):
    if isinstance(container, list):
        return any(equal(item, other) for other in container)
    if isinstance(container, dict):
        return is_text(item) and item in container
    raise EvaluationError("in something else than a list or a map")


class Evaluation:
    """One evaluation of one tree."""

    def __init__(self, lookup):
        self.lookup = lookup

    def value(self, tree, scope):
        return getattr(self, f"op_{tree[0]}")(scope, *tree[1:])

    def op_lit(self, _, value):
        return value

    def op_var(self, scope, name):
        return scope[name]

    def op_field(self, scope, operand, name):
        return select(self.value(operand, scope), name)

    def op_opt_field(self, scope, operand, name):
        return opt_select(self.value(operand, scope), name)

    def op_index(self, scope, operand, index):
        return item(self.value(operand, scope), self.value(index, scope))

    def op_opt_index(self, scope, operand, index):
        return opt_item(self.value(operand, scope), self.value(index, scope))

    def op_has(self, scope, operand, name):
        """Whether the path is there up to its last field; what is no map has no fields."""
        if operand[0] == "field" and not self.op_has(scope, *operand[1:]):
            return False
        value = self.value(operand, scope)
        if isinstance(value, Optional):
            return opt_select(value, name).present
        return isinstance(value, dict) and name in value

    def op_has_value(self, scope, operand):
        value = self.value(operand, scope)
        if not isinstance(value, Optional):
            raise EvaluationError("hasValue of something else than an optional")
        return value.present

    def op_or_value(self, scope, operand, fallback):
        value = self.value(operand, scope)
        if not isinstance(value, Optional):
            raise EvaluationError("orValue of something else than an optional")
        return value.value if value.present else self.value(fallback, scope)

    def op_not(self, scope, operand):
        return not truth(self.value(operand, scope))

    def op_neg(self, scope, operand):
        value = self.value(operand, scope)
        if not is_number(value):
            raise EvaluationError("the negative of something else than a number")
        return in_64_bits(-value) if is_int(value) else -value

    def op_and(self, scope, left, right):
        return self.decide(False, [lambda: self.value(left, scope), lambda: self.value(right, scope)])

    def op_or(self, scope, left, right):
        return self.decide(True, [lambda: self.value(left, scope), lambda: self.value(right, scope)])

    @staticmethod
    def decide(decisive, parts):
        """Whether any part is `decisive`, which outweighs errors of others; else an error if there was one."""
        error = None
        for part in parts:
            try:
                if truth(part()) == decisive:
                    return decisive
            except EvaluationError as found:
                error = error or found
        if error:
            raise error
        return not decisive

    def op_cond(self, scope, condition, then, otherwise):
        return self.value(then if truth(self.value(condition, scope)) else otherwise, scope)

    def op_bin(self, scope, operator, left, right):
        a, b = self.value(left, scope), self.value(right, scope)
        if operator in ("==", "!="):
            return equal(a, b) == (operator == "==")
        if operator in ORDERS:
            return ORDERS[operator](ordered(a, b))
        if operator == "in":
            return contains(a, b)
        return arithmetic(operator, a, b)

    def op_list(self, scope, items):
        return [self.value(part, scope) for part in items]

    def op_map(self, scope, entries):
        return {key: self.value(part, scope) for key, part in entries}

    def op_call(self, scope, name, arguments):
        return FUNCTIONS[name](*[self.value(argument, scope) for argument in arguments])

    def op_method(self, scope, name, arguments):
        return METHODS[name](*[self.value(argument, scope) for argument in arguments])

    def op_lookup(self, scope, collection, key):
        return self.lookup(collection, self.value(key, scope))

    def op_fold(self, scope, kind, operand, variable, only, body):
        value = self.value(operand, scope)
        if isinstance(value, dict):
            value = sorted(value)
        if not isinstance(value, list):
            raise EvaluationError(f"{kind} of something else than a list or a map")
        scopes = [{**scope, variable: part} for part in value]
        if kind in ("all", "exists"):
            return self.decide(kind == "exists", [lambda at=at: self.value(body, at) for at in scopes])
        if kind == "exists_one":
            return sum([truth(self.value(body, at)) for at in scopes]) == 1
        if kind == "filter":
            return [at[variable] for at in scopes if truth(self.value(body, at))]
        return [self.value(body, at) for at in scopes if only is None or truth(self.value(only, at))]
