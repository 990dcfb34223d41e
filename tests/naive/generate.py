"""Random trees, definitions and events, by seed.

Trees are made to mostly make sense: by kind (number, text, boolean, list, map), from fields that events mostly have.
Mostly, because a model that never sees an error compares half of the language.
"""

from projection import DELETE, MERGE, PUT, ADD, UNSET, Definition, Step, Template

TEXTS = ["a", "b", "EWR", "", "ä", "x y", "a/b", "$", "0", "-7", "12", "\u00df\U0001f600", "it's", 'say "hi"', "tab\there", "#no: comment"]
KEYS = ["a", "b", "c", "k1", "k2", "ä", "z z"]
INTS = [0, 1, -1, 2, 3, 7, 10, -13, 100, 2**31, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63) + 1, 2**62]
# As JSON texts: what they become is the parser's business.
NUMBER_TEXTS = [
    "0.0", "-0.0", "1.0", "0.1", "0.2", "-2.5", "1e3", "2.5e-3", "1e-7", "1.5E+2", "123456789.125", "9007199254740993.0",
    "9007199254740993", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "-9223372036854775809",
    "18446744073709551615", "1e19", "1e300", "-1e300", "5e-324", "1.7976931348623157e308", "3.141592653589793", "100000000000000000000000",
]  # fmt: skip
MAP_KEYS = ["a", "b", "c", "d", "B", "10", "9", "é", "zz", "_"]
FIELDS = {
    "number": ["n", "m", "x", "y"],
    "text": ["t", "u"],
    "boolean": ["flag"],
    "numbers": ["list"],
    "objects": ["rows"],
    "map": ["map"],
}


class Trees:
    """Makes trees. `known` are names of variables by kind."""

    def __init__(self, rng, collections):
        self.rng = rng
        self.collections = collections
        self.known = {}
        self.with_doc = False
        self.with_lookup = False
        self.names = 0

    def pick(self, kind, depth):
        return self.rng.choice(getattr(self, kind + "s_of"))(depth)

    # ---- leaves

    def data(self, kind):
        """A field of the data that mostly has this kind, guarded at times."""
        name = self.rng.choice(FIELDS[kind])
        data = ("var", "data")
        return self.rng.choices(
            [
                lambda: ("field", data, name),
                lambda: ("or_value", ("opt_field", data, name), self.literal(kind)),
                lambda: ("index", data, ("lit", name)),
                lambda: ("cond", ("has", data, name), ("field", data, name), self.literal(kind)),
                lambda: ("or_value", ("opt_index", data, ("lit", name)), self.literal(kind)),
            ],
            [10, 5, 1, 2, 1],
        )[0]()

    def deep(self):
        deep = ("field", ("var", "data"), "deep")
        return self.rng.choice(
            [
                ("field", ("field", deep, "a"), "b"),
                ("or_value", ("opt_field", ("opt_field", deep, "a"), "b"), ("lit", 0)),
                ("or_value", ("field", ("opt_field", deep, "a"), "b"), ("lit", 1.5)),
                ("or_value", ("opt_field", ("field", deep, "a"), "zz"), ("lit", -1)),
            ]
        )

    def literal(self, kind):
        rng = self.rng
        if kind == "number":
            return ("lit", rng.choice([rng.choice(INTS[:9]), rng.choice(INTS), rng.choice([0.5, -2.25, 1e-3, 3.0, 1e18, 0.1])]))
        if kind == "text":
            return ("lit", rng.choice(TEXTS))
        if kind == "boolean":
            return ("lit", rng.random() < 0.5)
        if kind == "numbers":
            return ("list", [self.literal("number") for _ in range(rng.randrange(4))])
        if kind == "objects":
            return ("list", [("map", [("k", self.literal("text")), ("v", self.literal("number"))]) for _ in range(rng.randrange(3))])
        keys = rng.sample(MAP_KEYS, rng.randrange(4))
        return ("map", [(key, self.literal("number")) for key in keys])

    def leaf(self, kind):
        rng = self.rng
        roll = rng.random()
        if self.known.get(kind) and roll < 0.4:
            return ("var", rng.choice(self.known[kind]))
        if kind in ("number", "text") and self.with_doc and roll < 0.5:
            return self.doc(kind)
        if kind == "number" and roll < 0.55:
            return self.deep()
        if kind == "text" and roll < 0.55:
            return ("field", ("var", "event"), rng.choice(["type", "stream"]))
        if kind == "number" and roll < 0.6:
            return ("field", ("var", "event"), rng.choice(["position", "revision"]))
        return self.data(kind) if roll < 0.85 else self.literal(kind)

    def doc(self, kind):
        field = {"number": ["count", "sum", "mix"], "text": ["label", "mix"]}[kind]
        field = self.rng.choice(field)
        doc = ("var", "doc")
        fallback = self.literal(kind)
        guarded = ("cond", ("bin", "==", doc, ("lit", None)), fallback, ("or_value", ("opt_field", doc, field), fallback))
        return guarded if self.rng.random() < 0.95 else ("field", doc, field)

    # ---- by kind

    def tree(self, kind, depth):
        """A tree that mostly has a value of this kind; now and then one of another kind."""
        if self.rng.random() < 0.004:
            kind = self.rng.choice(list(FIELDS))
        if depth <= 0 or self.rng.random() < 0.15:
            return self.leaf(kind)
        if self.rng.random() < 0.08:
            return ("cond", self.tree("boolean", depth - 1), self.tree(kind, depth - 1), self.tree(kind, depth - 1))
        return getattr(self, "of_" + kind)(depth - 1)

    def of_number(self, depth):
        rng, tree = self.rng, self.tree
        numbers = lambda: tree("number", depth)
        return rng.choices(
            [
                lambda: ("bin", rng.choice("+-*"), numbers(), numbers()),
                lambda: ("bin", "/", numbers(), rng.choice([numbers, lambda: self.nonzero()])()),
                lambda: ("bin", "%", ("call", "size", [tree("text", depth)]), self.nonzero(True)),
                lambda: ("neg", numbers()),
                lambda: ("call", "size", [tree(rng.choice(["text", "numbers", "map", "objects"]), depth)]),
                lambda: ("method", "size", [tree(rng.choice(["numbers", "map"]), depth)]),
                lambda: ("call", rng.choice(["int", "double", "math.abs", "math.sign"]), [numbers()]),
                lambda: ("call", rng.choice(["math.floor", "math.ceil", "math.round", "math.trunc"]), [self.fraction(numbers())]),
                lambda: ("call", rng.choice(["math.greatest", "math.least"]), [numbers() for _ in range(rng.randrange(1, 4))]),
                lambda: ("method", "sum", [tree("numbers", depth)]),
                lambda: ("method", rng.choice(["min", "max"]), [("bin", "+", tree("numbers", depth), ("list", [numbers()]))]),
                lambda: ("index", ("bin", "+", ("list", [numbers()]), tree("numbers", depth)), ("lit", 0)),
                lambda: ("or_value", ("opt_index", tree("numbers", depth), ("lit", rng.randrange(4))), numbers()),
                lambda: ("or_value", ("opt_index", tree("map", depth), ("lit", rng.choice(MAP_KEYS))), numbers()),
                lambda: self.looked_up(depth),
            ],
            [9, 3, 1, 1, 2, 1, 3, 2, 2, 3, 2, 1, 1, 2, 2],
        )[0]()

    def fraction(self, number):
        """A double, often halfway between two integers."""
        return self.rng.choice([("call", "double", [number]), ("bin", "/", number, ("lit", 2.0))])

    def nonzero(self, integer=False):
        return ("lit", self.rng.choice([1, 2, 3, -7, 10] + ([] if integer else [0.5, -3.0])))

    def looked_up(self, depth):
        if not self.with_lookup:
            return self.tree("number", depth)
        name = self.rng.choice(sorted(self.collections))
        found = ("lookup", name, self.key(0))
        if self.rng.random() < 0.5:
            return ("cond", ("bin", "==", found, ("lit", None)), ("lit", 0), ("or_value", ("opt_field", found, "count"), ("lit", 1)))
        return ("cond", ("bin", "!=", found, ("lit", None)), ("call", "size", [found]), ("lit", -1))

    def of_text(self, depth):
        rng, tree = self.rng, self.tree
        text = lambda: tree("text", depth)
        return rng.choices(
            [
                lambda: ("bin", "+", text(), text()),
                lambda: ("call", "string", [tree("number", depth)]),
                lambda: ("call", "string", [tree(rng.choice(["boolean", "text"]), depth)]),
                lambda: ("method", rng.choice(["lowerAscii", "upperAscii", "reverse"]), [text()]),
                lambda: ("method", "replace", [text(), ("lit", rng.choice(["a", "E", " "])), text()]),
                lambda: ("method", "join", [self.fold("map", self.fields_of("map"), "text", depth), ("lit", ",")]),
                lambda: ("method", "join", [("method", "split", [text(), ("lit", rng.choice(["a", " ", "/"]))]), ("lit", "-")]),
            ],
            [5, 5, 2, 2, 1, 2, 1],
        )[0]()

    def of_boolean(self, depth):
        rng, tree = self.rng, self.tree
        truth = lambda: tree("boolean", depth)
        kind = rng.choice(["number", "number", "text"])
        return rng.choices(
            [
                lambda: ("bin", rng.choice(["<", "<=", ">", ">="]), tree(kind, depth), tree(kind, depth)),
                lambda: ("bin", rng.choice(["==", "!="]), tree(kind, depth), tree(rng.choice([kind, "text"]), depth)),
                lambda: self.near(),
                lambda: ("bin", rng.choice(["==", "!="]), tree("numbers", depth), tree("numbers", depth)),
                lambda: (rng.choice(["and", "or"]), truth(), truth()),
                lambda: ("not", truth()),
                lambda: ("bin", "in", tree("number", depth), tree("numbers", depth)),
                lambda: ("bin", "in", tree("text", depth), tree("map", depth)),
                lambda: ("has", ("var", "data"), rng.choice(["n", "t", "nowhere", "deep"])),
                lambda: ("has", ("field", ("var", "data"), "deep"), rng.choice(["a", "c"])),
                lambda: ("has", ("field", ("field", ("var", "data"), rng.choice(["deep", "n", "gone"])), "a"), "b"),
                lambda: ("has_value", ("opt_field", ("var", "data"), rng.choice(["n", "gone"]))),
                lambda: ("method", rng.choice(["startsWith", "endsWith", "contains"]), [tree("text", depth), tree("text", depth)]),
                lambda: self.fold(rng.choice(["all", "exists", "exists_one"]), None, "boolean", depth),
                lambda: ("bin", rng.choice(["==", "!="]), ("field", ("var", "data"), rng.choice(["n", "t"])), ("lit", None)),
            ],
            [6, 4, 2, 1, 4, 1, 2, 2, 2, 1, 1, 1, 2, 4, 1],
        )[0]()

    def near(self):
        """An integer against a double that is next to it or is it."""
        rng = self.rng
        whole = rng.choice([2**53, 2**63 - 512, 2**62, 4])
        sides = [("lit", whole + rng.choice([-1, 0, 0, 1])), ("lit", float(whole))]
        rng.shuffle(sides)
        return ("bin", rng.choice(["==", "!=", "<", "<=", ">", ">="]), *sides)

    def of_numbers(self, depth):
        rng, tree = self.rng, self.tree
        return rng.choices(
            [
                lambda: ("list", [tree("number", depth) for _ in range(rng.randrange(4))]),
                lambda: ("bin", "+", tree("numbers", depth), tree("numbers", depth)),
                lambda: self.fold("map", None, "number", depth),
                lambda: self.fold("filter", "numbers", "boolean", depth),
                lambda: ("method", rng.choice(["sort", "distinct", "reverse"]), [tree("numbers", depth)]),
            ],
            [2, 2, 6, 4, 2],
        )[0]()

    def of_objects(self, depth):
        return self.fold("filter", "objects", "boolean", depth)

    def of_map(self, depth):
        keys = self.rng.sample(MAP_KEYS, self.rng.randrange(4))
        if self.rng.random() < 0.5:
            return self.leaf("map")
        return ("map", [(key, self.tree("number", depth)) for key in keys])

    def fields_of(self, _):
        return self.rng.choice(["map", "numbers", "objects"])

    def fold(self, kind, over, body_kind, depth):
        """A macro over numbers, objects or the keys of a map, with a variable of its own in the body."""
        over = over or self.rng.choice(["map", "numbers", "objects"])
        operand = self.tree(over, min(depth, 1))
        self.names += 1
        variable = f"v{self.names}"
        known = self.known
        self.known = {name: list(names) for name, names in known.items()}
        if over == "numbers":
            self.known.setdefault("number", []).extend([variable] * 3)
        if over == "map":
            self.known.setdefault("text", []).extend([variable] * 3)
        body = self.body(variable, over, operand, body_kind, depth)
        only = None
        if kind == "map" and self.rng.random() < 0.3:
            only = self.body(variable, over, operand, "boolean", depth)
        self.known = known
        return ("fold", kind, operand, variable, only, body)

    def body(self, variable, over, operand, kind, depth):
        """A tree in which the variable likely occurs."""
        own = {
            "numbers": {"number": ("var", variable)},
            "map": {"text": ("var", variable), "number": ("index", operand, ("var", variable))},
            "objects": {
                "text": ("field", ("var", variable), "k"),
                "number": ("or_value", ("opt_field", ("var", variable), "v"), ("lit", 0)),
            },
        }[over]
        mine, part = self.rng.choice(sorted(own.items()))
        if kind == mine:
            return self.rng.choice([part, ("bin", "+", part, self.tree(kind, depth - 1))])
        if kind == "number":
            return ("call", "size", [part])
        if kind == "text":
            return ("call", "string", [part])
        other = self.tree(mine, depth - 1)
        return ("bin", self.rng.choice(["<", ">", "==", "!=", "<=", ">="]), part, other)

    # ---- what stands in definitions

    def key(self, depth):
        rng = self.rng
        text = ("field", ("var", "data"), "key")
        return rng.choices(
            [
                lambda: text,
                lambda: ("lit", rng.choice(KEYS)),
                lambda: ("list", [text, ("call", "size", [self.tree("text", depth)])]),
                lambda: ("list", [self.tree("boolean", depth), text]),
                lambda: ("field", ("var", "data"), "small"),
                lambda: ("bin", "+", text, ("lit", "-x")),
                lambda: ("list", [text]),
            ],
            [8, 2, 2, 1, 2, 1, 1],
        )[0]()

    def template(self, kind, depth):
        """The value of a field of a document."""
        rng = self.rng
        roll = rng.random()
        if roll < 0.03:
            return Template([("opt_field", ("var", "data"), rng.choice(["n", "t", "gone"]))])
        if roll < 0.6:
            return Template([self.tree(kind, depth)])
        if roll < 0.7:
            parts = [rng.choice(["", "n=", "$", "${", "a b: "]), self.tree(rng.choice(["number", "text", "boolean"]), depth), rng.choice(["!", ""])]
            return Template([part for part in parts if part != ""] + [" end"])
        if roll < 0.8:
            return {name: self.template(rng.choice(["number", "text", "numbers"]), depth - 1) for name in rng.sample(MAP_KEYS, rng.randrange(1, 3))}
        if roll < 0.88:
            return [self.template(rng.choice(["number", "map", "boolean"]), depth - 1) for _ in range(rng.randrange(3))]
        return rng.choice([None, True, 17, -3, 2.5, "plain", "a: b", "$5", "yes", "${x}", "$$", ""])

    def step(self, depth):
        rng = self.rng
        step = Step(rng.choices([PUT, MERGE, ADD, DELETE], [3, 4, 4, 1])[0], rng.choice(sorted(self.collections)))
        self.known = {}
        self.with_doc = self.with_lookup = False
        if rng.random() < 0.25:
            over = rng.choice(["numbers", "objects"])
            step.for_each = self.tree(over, 1)
            if over == "numbers":
                self.known["number"] = ["item"]
        # The key may not need `doc`: first the names without it, then the key, then the names with it.
        count = rng.choice([0, 0, 0, 1, 2, 3])
        with_doc = rng.randrange(count + 1)
        self.lets(step, range(with_doc), depth)
        self.with_lookup = rng.random() < 0.3
        step.key = self.key(1)
        if step.key[0] == "list" and rng.random() < 0.6:
            step.key = list(step.key[1])
        self.with_doc = True
        self.lets(step, range(with_doc, count), depth)
        self.with_lookup = rng.random() < 0.3
        if rng.random() < 0.3:
            step.when = self.tree("boolean", depth)
        if step.action == ADD:
            names = rng.sample(["count", "sum", "mix"], rng.randrange(1, 4))
            step.value = {name: self.increment(depth) for name in names}
        elif step.action != DELETE and rng.random() < 0.1:
            step.value = Template([rng.choice([self.tree("map", depth), ("var", "data")])])
        elif step.action != DELETE:
            kinds = {"count": "number", "sum": "number", "label": "text", "mix": rng.choice(["text", "number", "boolean"]), "list": "numbers", "map": "map"}
            names = rng.sample(sorted(kinds), rng.randrange(1, 5))
            step.value = {name: self.template(kinds[name], depth) for name in names}
            if step.action == MERGE and rng.random() < 0.2:
                step.value[rng.choice(["count", "label", "mix"])] = UNSET
        return step

    def lets(self, step, numbers, depth):
        for at in numbers:
            kind = self.rng.choice(["number", "text", "numbers", "boolean"])
            self.with_lookup = True
            step.let.append((f"let{at}", self.tree(kind, depth)))
            self.known.setdefault(kind, []).append(f"let{at}")

    def increment(self, depth):
        """A number, or a tree that is no literal: literals of other kinds are refused when they are deployed."""
        tree = self.tree("number", depth)
        return self.rng.choice([1, 2.5, -1]) if tree[0] in ("lit", "list", "map") else Template([tree])


def definition(rng, number):
    collections = {name: {} for name in rng.sample(["alpha", "beta", "gamma"], rng.randrange(1, 4))}
    trees = Trees(rng, collections)
    events = {
        kind: [trees.step(rng.choice([1, 2, 2, 3])) for _ in range(rng.choice([1, 1, 2, 3]))]
        for kind in rng.sample(["made.a", "made.b", "made.c"], rng.randrange(1, 4))
    }
    return Definition(f"case-{number}", rng.randrange(1, 9), collections, events)


# ---- events: written as JSON texts, so that numbers come in every spelling ----------------------------------------------


class Events:
    def __init__(self, rng):
        self.rng = rng
        self.wild = rng.choice([0.0, 0.0, 0.01, 0.05])

    def number(self):
        rng = self.rng
        roll = rng.random()
        if roll < 0.6:
            return str(rng.randrange(-20, 100))
        if roll < 0.75:
            return repr(rng.randrange(-4000, 4000) / rng.choice([1, 4, 10, 1000]))
        return rng.choice(NUMBER_TEXTS) if roll < 0.9 else str(rng.choice(INTS))

    def text(self):
        return quote(self.rng.choice(TEXTS))

    def value(self, kind):
        rng = self.rng
        if rng.random() < self.wild:
            kind = rng.choice(["null", "number", "text", "boolean", "numbers", "objects", "map"])
        if kind == "number":
            return self.number()
        if kind == "text":
            return self.text()
        if kind == "boolean":
            return rng.choice(["true", "false"])
        if kind == "numbers":
            return "[" + ", ".join(self.number() for _ in range(rng.randrange(5))) + "]"
        if kind == "objects":
            return "[" + ",".join(self.fields({"k": self.text(), "v": self.number()}) for _ in range(rng.randrange(4))) + "]"
        if kind == "map":
            return self.fields({key: self.number() for key in rng.sample(MAP_KEYS, rng.randrange(6))}, 0)
        return "null"

    def fields(self, fields, missing=None):
        missing = self.wild if missing is None else missing
        kept = [f"{quote(name)}:{text}" for name, text in fields.items() if self.rng.random() >= missing]
        self.rng.shuffle(kept)
        return "{" + ", ".join(kept) + "}"

    def event(self):
        """The type and the text of the data of an event."""
        fields = {name: self.value(kind) for kind, names in FIELDS.items() for name in names}
        fields["key"] = quote(self.rng.choice(KEYS))
        fields["small"] = str(self.rng.randrange(3)) + self.rng.choice(["", "", ".0"])
        inner = self.fields({"b": self.number(), "c": self.text()})
        fields["deep"] = self.fields({"a": inner, "c": self.value("number")})
        return self.rng.choice(["made.a", "made.b", "made.c", "made.unknown"]), self.fields(fields)


def quote(text):
    import json

    return json.dumps(text)
