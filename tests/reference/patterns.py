"""What a regular expression lets follow, character by character: slow and obvious.

A state is what is left to read: a tuple of nodes, the next one first. It is expanded only
as far as its next character. Nothing here knows bytes but `can_begin`, nothing knows an
automaton. The tree is that of Python's own parser; no anchors, no flags.
"""

import functools
from re import ASCII
from re import _constants as ops
from re import _parser as parser

LAST = 0x10FFFF
DIGITS, WORDS = ((48, 57),), ((48, 57), (65, 90), (95, 95), (97, 122))
SPACES = ((9, 13), (32, 32))
CLASSES = {
    ops.CATEGORY_DIGIT: (DIGITS, True),
    ops.CATEGORY_NOT_DIGIT: (DIGITS, False),
    ops.CATEGORY_WORD: (WORDS, True),
    ops.CATEGORY_NOT_WORD: (WORDS, False),
    ops.CATEGORY_SPACE: (SPACES, True),
    ops.CATEGORY_NOT_SPACE: (SPACES, False),
}


def read(pattern):
    """Return the states before the first character."""
    return frozenset([(_nodes(parser.parse(pattern, ASCII)),)])


def _nodes(tree):
    return ("seq", tuple(_node(kind, value) for kind, value in tree))


def _node(kind, value):
    if kind is ops.LITERAL:
        return ("set", ((value, value),), True)
    if kind is ops.NOT_LITERAL:
        return ("set", ((value, value),), False)
    if kind is ops.ANY:
        return ("set", ((10, 10),), False)
    if kind is ops.IN:
        inside = [item for item in value if item[0] is not ops.NEGATE]
        return ("union", tuple(map(_item, inside)), len(inside) == len(value))
    if kind is ops.BRANCH:
        return ("alt", tuple(_nodes(option) for option in value[1]))
    if kind is ops.SUBPATTERN:
        return _nodes(value[3])
    low, high, inner = value
    return ("rep", _nodes(inner), low, None if high is ops.MAXREPEAT else high)


def _item(item):
    kind, value = item
    if kind is ops.CATEGORY:
        return ("set", *CLASSES[value])
    return ("set", (value if kind is ops.RANGE else (value, value),), True)


def _holds(node, code):
    if node[0] == "union":
        return any(_holds(inner, code) for inner in node[1]) == node[2]
    return any(low <= code <= high for low, high in node[1]) == node[2]


@functools.cache
def heads(state):
    """Return (set of characters, state behind it) pairs, and whether a text may end."""
    found, ends, seen, todo = set(), False, {state}, [state]
    while todo:
        current = todo.pop()
        if not current:
            ends = True
            continue
        node, rest = current[0], current[1:]
        if node[0] in ("set", "union"):
            found.add((node, rest))
            continue
        if node[0] == "seq":
            following = [(*node[1], *rest)]
        elif node[0] == "alt":
            following = [(option, *rest) for option in node[1]]
        else:
            _, inner, low, high = node
            fewer = ("rep", inner, max(low - 1, 0), None if high is None else high - 1)
            following = [] if high == 0 else [(inner, fewer, *rest)]
            following += [] if low else [rest]
        for state in following:
            if state not in seen:
                seen.add(state)
                todo.append(state)
    return frozenset(found), ends


@functools.cache
def step(states, code):
    """Return the states after one character."""
    return frozenset(
        rest for state in states for node, rest in heads(state)[0] if _holds(node, code)
    )


def may_end(states):
    """Whether a text may end here."""
    return any(heads(state)[1] for state in states)


@functools.cache
def advance(states, held, data):
    """Return the states after some bytes, and the bytes of a character's beginning.

    None where no text can go on so.
    """
    for byte in data:
        held += bytes([byte])
        try:
            states, held = step(states, ord(held.decode())), b""
        except UnicodeDecodeError:
            if not can_begin(states, held):
                return None
        if not states:
            return None
    return states, held


@functools.cache
def can_begin(states, held):
    """Whether some character that may come next begins with these bytes."""
    sizes = [(0xC2, 0xDF, 2), (0xE0, 0xEF, 3), (0xF0, 0xF4, 4)]
    size = next((n for low, high, n in sizes if low <= held[0] <= high), 0)
    if len(held) >= size:
        return False
    lowest = [0, 0, 0x80, 0x800, 0x10000][size]
    missing = 6 * (size - len(held))
    code = held[0] & (0x7F >> size)
    for byte in held[1:]:
        if not 0x80 <= byte <= 0xBF:
            return False
        code = code << 6 | (byte & 0x3F)
    codes = range(max(code << missing, lowest), min((code + 1) << missing, LAST + 1))
    # Sets are unions of few ranges or their complements: ends and middles are enough.
    nodes = [node for state in states for node, _ in heads(state)[0]]
    marks = {0xD7FF, 0xE000, *(m for n in nodes for m in _marks(n))}
    tried = {*codes[:1], *codes[-1:], *(m for m in marks if m in codes)}
    legal = [c for c in tried if not 0xD800 <= c <= 0xDFFF]
    return any(_holds(node, c) for node in nodes for c in legal)


def _marks(node):
    if node[0] == "union":
        return {m for inner in node[1] for m in _marks(inner)}
    return {m for low, high in node[1] for m in (low - 1, low, high, high + 1)}


class Oracle:
    """Which tokens may follow which, over a vocabulary.

    Args:
      pattern: a regular expression.
      tokens: the bytes of each token; None or b"" is no text.
      eos: the id that ends a text.
    """

    def __init__(self, pattern, tokens, eos):
        self.tokens, self.eos, self.start = tokens, eos, (read(pattern), b"")
        self.known = {}

    def after(self, ids):
        """Return the place after some tokens, or None."""
        place = self.start
        for token in ids:
            place = place and self.next(place, token)
        return place

    def next(self, place, token):
        """Return the place after one token, or None."""
        data = None if token == self.eos else self.tokens[token]
        return advance(*place, data) if data else None

    def fits(self, place, left):
        """Return the ids that fit with `left` tokens to go."""
        if place is None:
            return set()
        found = {self.eos} if left >= 1 and self.ends(place) else set()
        for token in range(len(self.tokens)):
            following = self.next(place, token)
            if following is not None and self.least(following, left - 1) is not None:
                found.add(token)
        return found

    def ends(self, place):
        """Whether the text may end here."""
        states, held = place
        return not held and may_end(states)

    def least(self, place, limit):
        """Return the fewest tokens to an end, the eos counted, or None above a limit."""
        places = {place}
        seen = set(places)
        for count in range(1, limit + 1):
            if any(self.ends(place) for place in places):
                return count
            places = {
                following
                for place in places
                for token in range(len(self.tokens))
                if (following := self.next(place, token)) is not None
            } - seen
            seen |= places
        return None
