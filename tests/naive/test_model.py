"""The model's own tests: what the language's documentation says, by hand; and that the generator is worth its time."""

import random
import unittest
from collections import Counter

from evaluate import evaluate
from generate import Events, definition
from model import EvaluationError, Optional, normalized, number_text, parse_json
from projection import ADD, DELETE, MERGE, PUT, UNSET, Definition, Projection, Step, Template
from text import cel, quoted

DATA = ("var", "data")


def lit(value):
    return ("lit", value)


def bin_(operator, a, b):
    return ("bin", operator, lit(a), lit(b))


class Expressions(unittest.TestCase):
    def check(self, tree, expected, **scope):
        found = evaluate(tree, scope, lambda *_: None)
        self.assertEqual((type(found), found), (type(expected), expected), tree)

    def check_error(self, tree, **scope):
        with self.assertRaises(EvaluationError, msg=str(tree)):
            evaluate(tree, scope, lambda *_: None)

    def test_numbers(self):
        self.check(bin_("+", 1, 2), 3)
        self.check(bin_("+", 1, 2.0), 3.0)
        self.check(bin_("/", 7, 2), 3)
        self.check(bin_("/", -7, 2), -3)
        self.check(bin_("/", 7, 2.0), 3.5)
        self.check(bin_("%", -7, 3), -1)
        self.check(bin_("+", 2**53, 1.0), float(2**53))
        for tree in [bin_("+", 2**63 - 1, 1), bin_("/", 1, 0), bin_("/", 1.0, 0), bin_("*", 1e300, 1e300), bin_("%", 1.0, 2)]:
            self.check_error(tree)
        self.check_error(("neg", lit(-(2**63))))
        self.check_error(bin_("/", -(2**63), -1))

    def test_equality_and_order(self):
        self.check(bin_("==", 1, 1.0), True)
        self.check(bin_("==", 2**53 + 1, float(2**53)), False)
        self.check(bin_("<", float(2**53), 2**53 + 1), True)
        self.check(bin_("==", 1, True), False)
        self.check(bin_("==", [1, {"a": 2.0}], [1.0, {"a": 2}]), True)
        self.check(bin_("<", "Z", "a"), True)
        self.check_error(bin_("<", 1, "a"))
        self.check_error(bin_("<", None, 1))
        self.check(("bin", "in", lit(1.0), lit([2, 1])), True)

    def test_errors_are_outweighed_by_what_decides(self):
        error = bin_("/", 1, 0)
        self.check(("or", error, lit(True)), True)
        self.check(("and", error, lit(False)), False)
        self.check_error(("or", error, lit(False)))
        self.check_error(("and", lit(True), lit(1)))

    def test_paths(self):
        data = {"a": {"b": 1}, "n": None}
        a = ("field", DATA, "a")
        self.check(("field", a, "b"), 1, data=data)
        self.check_error(("field", a, "c"), data=data)
        self.check_error(("field", ("field", DATA, "n"), "c"), data=data)
        self.check(("has", a, "c"), False, data=data)
        self.check(("has", ("field", ("field", DATA, "n"), "c"), "d"), False, data=data)
        self.check(("has", ("field", ("field", DATA, "gone"), "c"), "d"), False, data=data)
        self.check(("has_value", ("opt_field", DATA, "n")), True, data=data)
        self.check(("opt_field", a, "b"), Optional(True, 1), data=data)
        self.check(("or_value", ("field", ("opt_field", DATA, "zz"), "c"), lit(5)), 5, data=data)

    def test_folds(self):
        x = ("var", "x")
        items = ("list", [lit(3), lit(0), lit(2)])
        self.check(("fold", "map", items, "x", None, ("bin", "*", x, lit(2))), [6, 0, 4])
        self.check(("fold", "map", items, "x", ("bin", ">", x, lit(0)), x), [3, 2])
        self.check(("fold", "filter", items, "x", None, ("bin", ">", x, lit(0))), [3, 2])
        self.check(("fold", "map", ("map", [("b", lit(1)), ("B", lit(2)), ("10", lit(3)), ("9", lit(4))]), "x", None, x), ["10", "9", "B", "b"])
        inverse = ("bin", ">", ("bin", "/", lit(6), x), lit(2))
        self.check(("fold", "exists", items, "x", None, ("bin", "==", ("bin", "/", lit(6), x), lit(3))), True)
        self.check_error(("fold", "all", items, "x", None, ("bin", ">", ("bin", "/", lit(6), x), lit(1))))
        self.check(("fold", "all", items, "x", None, inverse), False)
        self.check(("fold", "exists_one", items, "x", None, ("bin", "==", x, lit(0))), True)

    def test_number_text(self):
        for number, text in [(3.0, "3"), (-0.0, "0"), (0.1, "0.1"), (1e19, "1e+19"), (-2.5e-7, "-2.5e-7"), (1e300, "1e+300")]:
            self.assertEqual(number_text(number), text)
        rng = random.Random(1)
        for _ in range(2000):
            number = rng.uniform(-1, 1) * 10.0 ** rng.randrange(-30, 30)
            self.assertEqual(float(number_text(number)), number)

    def test_json(self):
        self.assertEqual(repr(parse_json("[9223372036854775807, 9223372036854775808, 1.0, -0]")), "[9223372036854775807, 9.223372036854776e+18, 1.0, -0.0]")
        self.assertEqual(repr(normalized({"b": 1.0, "a": [1e19, 0.5]})), "{'a': [1e+19, 0.5], 'b': 1}")


class Texts(unittest.TestCase):
    def test_brackets_stand_where_they_must(self):
        a, b, c = ("var", "a"), ("var", "b"), ("var", "c")
        for tree, text in [
            (("bin", "*", ("bin", "+", a, b), c), "(a + b) * c"),
            (("bin", "+", a, ("bin", "*", b, c)), "a + b * c"),
            (("bin", "-", a, ("bin", "-", b, c)), "a - (b - c)"),
            (("or", ("and", a, b), c), "a && b || c"),
            (("cond", ("cond", a, b, c), a, ("cond", a, b, c)), "(a ? b : c) ? a : a ? b : c"),
            (("neg", lit(-1)), "-(-1)"),
            (("field", lit(-1), "x"), "(-1).x"),
            (("field", a, "x y"), "a.`x y`"),
        ]:
            self.assertEqual(cel(tree), text)
        self.assertEqual(quoted('a"\\\n'), '"a\\"\\\\\\n"')


class Steps(unittest.TestCase):
    def check(self, steps, data, expected, before=None):
        projection = Projection(Definition("p", 1, {"c": {}}, {"t": steps}))
        if before is not None:
            projection.documents["c"][("str", "k"),] = before
        projection.apply({"type": "t", "data": data})
        self.assertEqual({key[0][1]: document for key, document in projection.documents["c"].items()}, expected)

    def step(self, action, value=None, **more):
        return Step(action, "c", lit("k"), value or {}, **more)

    def test_actions(self):
        one = Template([("field", DATA, "n")])
        self.check([self.step(PUT, {"a": one, "b": Template(["<", lit(1.5), ">"])})], {"n": 2.0}, {"k": {"a": 2, "b": "<1.5>"}})
        self.check([self.step(MERGE, {"a": one, "b": UNSET})], {"n": None}, {"k": {"a": None, "c": 1}}, {"b": 1, "c": 1})
        self.check([self.step(ADD, {"a": one, "b": 2})], {"n": 0.5}, {"k": {"a": 1.5, "b": 2}}, {"a": 1})
        self.check([self.step(DELETE)], {}, {}, {"a": 1})
        self.check([self.step(ADD, {"a": 1}, for_each=lit([1, 2]))], {}, {"k": {"a": 2}})
        self.check([self.step(ADD, {"a": 1}, when=lit(False))], {}, {})

    def test_let_is_evaluated_where_it_is_needed(self):
        error, doc = bin_("/", 1, 0), ("var", "doc")
        self.check([self.step(PUT, {"a": Template([("var", "x")])}, let=[("y", error), ("x", lit(1))])], {}, {"k": {"a": 1}})
        self.check([self.step(PUT, {"a": Template([("var", "y")])}, let=[("y", error)], when=lit(False))], {}, {})
        self.check([Step(PUT, "c", error, {}, when=lit(False))], {}, {})
        gone = self.step(PUT, {"a": 1}, let=[("was", doc)], when=("bin", "==", ("var", "was"), lit(None)))
        self.check([gone], {}, {"k": {"b": 1}}, {"b": 1})
        self.check([self.step(MERGE, Template([DATA]))], {"n": 2.0}, {"k": {"b": 1, "n": 2}}, {"b": 1})

    def test_an_error_undoes_the_whole_event(self):
        projection = Projection(Definition("p", 1, {"c": {}}, {"t": [self.step(PUT, {"a": 1}), self.step(ADD, {"a": "x"})]}))
        with self.assertRaises(EvaluationError):
            projection.apply({"type": "t", "data": {}})
        self.assertEqual(projection.documents, {"c": {}})


class Generator(unittest.TestCase):
    def test_cases_are_repeatable_and_use_the_language(self):
        self.assertEqual(definition(random.Random(5), 5).yaml(random.Random(0)), definition(random.Random(5), 5).yaml(random.Random(0)))
        kinds, outcomes = Counter(), Counter()

        def count(part):
            if isinstance(part, Template):
                part = part.parts
            if isinstance(part, tuple) and part and isinstance(part[0], str):
                kinds[part[0] if part[0] not in ("fold", "bin") else part[1]] += 1
            if isinstance(part, dict):
                part = list(part.values())
            if isinstance(part, (tuple, list)):
                for inner in part:
                    count(inner)

        for seed in range(300):
            rng = random.Random(seed)
            made, events = definition(rng, seed), Events(rng)
            for steps in made.events.values():
                for step in steps:
                    kinds[step.action] += 1
                    count([step.key, step.value, step.when, step.for_each, [tree for _, tree in step.let]])
            projection = Projection(made)
            try:
                for position in range(20):
                    kind, data = events.event()
                    projection.apply({"type": kind, "stream": "s", "position": position, "revision": 1, "data": parse_json(data)})
                outcomes["done"] += 1
            except EvaluationError:
                outcomes["failed"] += 1
            outcomes["documents"] += sum(map(len, projection.documents.values()))
        self.assertGreater(outcomes["done"], 75, outcomes)
        self.assertGreater(outcomes["failed"], 30, outcomes)
        self.assertGreater(outcomes["documents"], 500, outcomes)
        wanted = "+ - * / % == != < <= > >= in and or not neg cond has opt_field opt_index or_value list map call method lookup"
        for kind in wanted.split() + ["map", "filter", "all", "exists", "exists_one", PUT, MERGE, ADD, DELETE]:
            self.assertGreater(kinds[kind], 10, kind)


if __name__ == "__main__":
    unittest.main()
