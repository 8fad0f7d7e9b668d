"""The Jinja dialect of chat templates, in a sandbox that counts every operation.

Only the filters and functions that chat templates use are available. The syntax tree is
rewritten before compilation, so that loops, lists, joined strings and output are counted
in the budget of `template_limits`.
"""

import functools
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from types import BuiltinMethodType, MethodType
from typing import Any

from jinja2 import TemplateError, nodes, pass_context, pass_environment
from jinja2.ext import Extension, do, loopcontrols
from jinja2.runtime import LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

from jaxdecode.text.template_limits import (
    ITEM,
    budget,
    check_binop,
    check_format,
    check_join,
    check_replace,
    check_short,
    refuse,
    within,
)

_FILTERS = """
    abs attr batch capitalize center count d default dictsort escape e filesizeformat
    first float forceescape format groupby indent int items join last length list lower
    map max min pprint reject rejectattr replace reverse round safe select selectattr
    slice sort string striptags sum title trim truncate unique upper urlencode wordcount
    wordwrap
"""
RANGE_MAX = 10_000

_TEXT_METHODS = """
    capitalize casefold count endswith find format index isalnum isalpha isdecimal
    isdigit islower isnumeric isspace istitle isupper join lower lstrip partition
    removeprefix removesuffix replace rfind rindex rpartition rsplit rstrip split
    splitlines startswith strip swapcase title upper
"""
_METHODS: dict[type, frozenset[str]] = {
    str: frozenset(_TEXT_METHODS.split()),
    dict: frozenset(["get", "items", "keys", "values"]),
    list: frozenset(["count", "index"]),
    tuple: frozenset(["count", "index"]),
}
_PLAIN = (str, int, float, list, tuple, dict, Undefined, type(None))
_WITH_NAMES = (Namespace, LoopContext, Macro, Cycler)
_VIEWS = (type({}.items()), type({}.keys()), type({}.values()))


class Absent(Undefined):
    """A special token that the model does not have: not defined, and added as no text."""

    __slots__ = ()

    def __add__(self, other):
        return other

    __radd__ = __add__


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment in which chat templates are compiled and run."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self):
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, do, Generation],
            # The optimizer would evaluate constants outside of any budget.
            optimized=False,
        )
        self.filters = {
            name: _counted(name, self.filters[name]) for name in _FILTERS.split()
        }
        for name, own in (("tojson", tojson), ("sum", _sum), ("attr", _attr)):
            self.filters[name] = _counted(name, own)
        self.tests = {name: _counted_test(test) for name, test in self.tests.items()}
        self.filters |= {"_each": _each, "_emit": _emit, "_made": _made, "_glue": _glue}
        self.globals = {
            "cycler": Cycler,
            "dict": dict,
            "joiner": Joiner,
            "namespace": Namespace,
            "raise_exception": raise_exception,
            "range": _range,
            "strftime_now": strftime_now,
        }
        self._functions = tuple(self.globals.values())

    def _parse(self, source, name, filename):
        return _Rewrite().visit(super()._parse(source, name, filename))

    def call_binop(self, context, operator, left, right):
        """Run an arithmetic operation if its result cannot be too large."""
        check_binop(operator, left, right)
        return budget().made(super().call_binop(context, operator, left, right))

    def call(self, context, obj, *args, **kwargs):  # type: ignore[override]
        """Run a call if it is to a function that is allowed."""
        budget().step()
        self._allow(obj, args, kwargs)
        if isinstance(obj, LoopContext) and args:  # one level deeper in a tree
            args = (_each(context, args[0]), *args[1:])
        return budget().made(super().call(context, obj, *args, **kwargs))

    def _allow(self, obj: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        owner = getattr(obj, "__self__", None)
        name = getattr(obj, "__name__", "")
        if isinstance(obj, (Macro, LoopContext, Joiner)):
            return
        if isinstance(owner, (LoopContext, Cycler)):
            return
        if any(obj is function for function in self._functions):
            return
        if isinstance(obj, Undefined):
            return  # calling it raises the error that names it
        wrapped = getattr(obj, "__wrapped__", obj)  # the sandbox wraps str.format
        owner = getattr(wrapped, "__self__", None)
        allowed = _METHODS.get(type(owner), frozenset())
        if isinstance(wrapped, BuiltinMethodType | MethodType) and name in allowed:
            if type(owner) is str:
                _check_method(owner, name, args, kwargs)
            return
        refuse(f"must not call {name or type(obj).__name__}")


class Generation(Extension):
    """`{% generation %}`: marks the assistant's text for training; its body is kept."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser):
        """Return the body."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Rewrite(NodeTransformer):
    """Passes every value that a template makes through a filter that counts it."""

    # Nodes get their fields from a metaclass: a type checker cannot know them.

    def visit_For(self, node: Any):
        node = self.generic_visit(node)
        node.iter = _through("_each", node.iter)
        return node

    def visit_Output(self, node: Any):
        node = self.generic_visit(node)
        node.nodes = [_through("_emit", _constant(child)) for child in node.nodes]
        return node

    def visit_Concat(self, node: Any):
        node = self.generic_visit(node)
        return _through("_glue", nodes.List(node.nodes, lineno=node.lineno))

    def visit_List(self, node: Any):
        return _through("_made", self.generic_visit(node))

    def visit_Dict(self, node: Any):
        return _through("_made", self.generic_visit(node))

    def visit_Tuple(self, node: Any):
        node = self.generic_visit(node)
        return _through("_made", node) if node.ctx == "load" else node


def _through(name: str, node: Any) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _constant(node: Any) -> Any:
    if isinstance(node, nodes.TemplateData):
        return nodes.Const(node.data, lineno=node.lineno)
    return node


# The counting filters take the context so that Jinja does not run them when it compiles.


@pass_context
def _each(context, values):
    for value in values:
        budget().step()
        yield value


@pass_context
def _emit(context, value):
    if not isinstance(value, _PLAIN):
        refuse(f"must not print a {type(value).__name__}")
    if not isinstance(value, str):
        value = str(budget().made(value))
    return budget().made(value)


@pass_context
def _made(context, value):
    return budget().made(value)


@pass_context
def _glue(context, values):
    texts = [_emit(context, value) for value in values]
    within(sum(map(len, texts)))
    return budget().made("".join(texts))


def _counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter whose cost is bounded before it runs and counted after."""
    # Filters that want a context, an environment, ... get it as their first argument.
    skip = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def filter_(*args, **kwargs):
        _check_filter(name, args[skip:], kwargs)
        made = function(*args, **kwargs)
        if isinstance(made, Iterator):
            made = list(
                made
            )  # a generator would run later, where nothing counts its work
        return budget().made(str(made) if isinstance(made, Markup) else made)

    return filter_


def _counted_test(test: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(test)
    def test_(*args, **kwargs):
        budget().step()
        return test(*args, **kwargs)

    return test_


def _check_filter(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    budget().step()
    value = args[0] if args else ""
    has_names = name == "attr" and isinstance(value, _WITH_NAMES)
    if not has_names and not isinstance(value, (*_PLAIN, *_VIEWS)):
        refuse(f"must not apply {name} to a {type(value).__name__}")
    numbers = [v for v in (*args[1:], *kwargs.values()) if isinstance(v, int)]
    if name in ("indent", "round", "tojson") and any(abs(n) > 100 for n in numbers):
        refuse(f"must not give {name} a number above 100")
    if name == "indent":
        width = max([100, *(len(v) for v in args[1:] if isinstance(v, str))])
        within(len(str(value)) + (str(value).count("\n") + 1) * width)
    elif name == "replace":
        old, new = (kwargs.get(k, _nth(args, i)) for i, k in ((1, "old"), (2, "new")))
        check_replace(str(value), str(old), str(new))
    elif name == "join":
        check_join(value, str(kwargs.get("d", _nth(args, 1))))
    elif name == "format":
        check_format(str(value), "%", *args[1:], *kwargs.values())
    elif name == "center":
        within(max([0, *numbers]))
    elif name in ("batch", "slice"):
        within(ITEM * max([0, *map(abs, numbers)]))
    elif name in ("pprint", "striptags", "wordwrap"):  # take more than linear time
        check_short(name, value)


def _nth(args: tuple[Any, ...], i: int) -> Any:
    return args[i] if len(args) > i else ""


def _check_method(
    owner: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    if name == "format":
        check_format(owner, "{", *args, *kwargs.values())
    elif name == "replace" and len(args) >= 2:
        check_replace(owner, str(args[0]), str(args[1]))
    elif name == "join" and args:
        check_join(args[0], owner)


@pass_environment
def _attr(environment, value, name):
    """Return an attribute as `value.name` does, never an item."""
    name = str(name)
    if not hasattr(value, name):
        return environment.undefined(obj=value, name=name)
    return environment.getattr(value, name)


@pass_context
def _sum(context, values, attribute=None, start=0):
    """Add up numbers, or lists, whose items are copied once."""
    if attribute is not None:
        values = context.environment.filters["map"](
            context, values, attribute=attribute
        )
    if isinstance(start, list):
        items = [item for value in values for item in _each(context, value)]
        return [*start, *items]
    total = start
    for value in values:
        check_binop("+", total, value)
        total = budget().made(total + value)
    return total


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    """Return JSON as Hugging Face does: nothing is escaped for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def raise_exception(message):
    """Raise an error with the template's own message."""
    raise TemplateError(message)


def strftime_now(pattern):
    """Return the present time in the given format."""
    check_format(pattern, "%")
    return datetime.now().strftime(pattern)


def _range(*bounds):
    values = range(*bounds)
    if len(values) > RANGE_MAX:
        refuse(f"must not use a range of more than {RANGE_MAX}")
    return list(values)
