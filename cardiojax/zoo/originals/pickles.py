"""Pickles interpreted as data: objects become inert records, and nothing that a pickle names is imported or called.

The standard library splits the bytes into operations (`pickletools.genops`). The operations that build numbers, strings
and containers are carried out here; a class or function stays a name, and a call of it a record of its arguments.
"""

import pickletools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from cardiojax.zoo.weights import WeightsError, printable

#: The description of 20,000 tensors takes 4 MiB and 600,000 operations; a record takes about 150 bytes of memory.
MAX_BYTES = 64 * 2**20
MAX_OPERATIONS = 2_000_000
#: Characters of the module and the name of a class; two long strings would make a new one with every operation.
_MAX_NAME = 1000


class Name:
    """A class or function that a pickle refers to.

    Attributes:
        text: Its module and name, with a dot between.
    """

    __slots__ = ("text",)

    def __init__(self, text: str):
        self.text = text


class Record:
    """A dictionary, or an object of a class that is not interpreted.

    Attributes:
        kind: ``"dict"``, or the name of its class or of the function that returns it.
        pairs: Its items, in order; a key may come twice.
        parts: Arguments, elements and state of an object.
    """

    __slots__ = ("kind", "pairs", "parts")

    def __init__(self, kind: str, parts: list | None = None):
        self.kind, self.pairs, self.parts = kind, [], [] if parts is None else parts


_DICTIONARIES = ("collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict")
_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def interpret(data: bytes, functions: Mapping[str, Callable[[tuple], Any]], persistent: Callable[[Any], Any]) -> Any:
    """Interprets a pickle of protocol 2 to 5.

    Time and memory grow with the number of operations; `MAX_OPERATIONS` of them take about 5 s and 0.7 GB.

    Args:
        data: The pickle, at most `MAX_BYTES`.
        functions: What stands for a call of a named function, given its arguments.
        persistent: What stands for an object that lies outside the pickle, given its description.

    Returns:
        Numbers, strings, bytes, tuples, lists (sets too), `Record`, `Name`, and what the two arguments return.

    Raises:
        WeightsError: If the pickle is damaged, too long, or uses an operation that is not interpreted.
    """
    if len(data) > MAX_BYTES:
        raise WeightsError(f"its pickle is over {MAX_BYTES >> 20} MiB")
    machine = _Machine(functions, persistent)
    try:
        return _run(machine, data)
    except (IndexError, KeyError):
        raise WeightsError("its pickle is damaged (an operand or a memo entry is absent)") from None
    except ValueError as error:  # of genops
        raise WeightsError(f"its pickle is damaged ({printable(str(error))})") from None


def _run(machine: "_Machine", data: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of escape sequences in damaged strings
        for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
            if count == MAX_OPERATIONS:
                raise WeightsError(f"its pickle has over {MAX_OPERATIONS} operations")
            if operation.name == "STOP":
                return machine.stack[-1]
            machine.step(operation.name, argument)
    raise WeightsError("its pickle does not end")


class _Machine:
    """The stack of the pickle protocol; a mark puts the stack aside and begins another."""

    def __init__(self, functions: Mapping[str, Callable[[tuple], Any]], persistent: Callable[[Any], Any]):
        self.functions, self.persistent = functions, persistent
        self.stack: list[Any] = []
        self.aside: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, operation: str, argument: Any) -> None:
        """Carries out one operation other than STOP."""
        stack = self.stack
        if operation in _VALUES:
            stack.append(argument)
        elif operation in _CONSTANTS:
            stack.append(_CONSTANTS[operation])
        elif operation in _TUPLES:
            size = _TUPLES[operation]
            values = tuple(stack.pop() for _ in range(size))
            stack.append(values[::-1])
        else:
            self._build(operation, argument)

    def _build(self, operation: str, argument: Any) -> None:
        stack = self.stack
        match operation:
            case "PROTO" | "FRAME":
                pass
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "MARK":
                self.aside.append(stack)
                self.stack = []
            case "EMPTY_DICT":
                stack.append(Record("dict"))
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "POP" if stack:
                stack.pop()
            case "POP" | "POP_MARK":
                self._marked()
            case "TUPLE" | "FROZENSET":
                values = self._marked()
                self.stack.append(tuple(values))
            case "APPEND":
                self._append([stack.pop()])
            case "APPENDS" | "ADDITEMS":
                self._append(self._marked())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._set([key, value])
            case "SETITEMS":
                self._set(self._marked())
            case "GLOBAL":
                stack.append(Name(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                name, module = _expect(stack.pop(), str), _expect(stack.pop(), str)
                if len(name) + len(module) > _MAX_NAME:
                    raise WeightsError(f"its pickle names a class in over {_MAX_NAME} characters")
                stack.append(Name(f"{module}.{name}"))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._call(function, _expect(arguments, tuple)))
            case "NEWOBJ_EX":
                named, arguments, function = stack.pop(), stack.pop(), stack.pop()
                stack.append(Record(_expect(function, Name).text, [arguments, named]))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Record):
                    stack[-1].parts.append(state)
            case "BINPERSID":
                stack.append(self.persistent(stack.pop()))
            case _:
                raise WeightsError(f"its pickle uses the operation {operation}, which is not interpreted")

    def _marked(self) -> list:
        values, self.stack = self.stack, self.aside.pop()
        return values

    def _append(self, values: list) -> None:
        target = self.stack[-1]
        (target.parts if isinstance(target, Record) else _expect(target, list)).extend(values)

    def _set(self, values: list) -> None:
        if len(values) % 2:
            raise WeightsError("its pickle is damaged (a key without a value)")
        _expect(self.stack[-1], Record).pairs.extend(zip(values[::2], values[1::2], strict=True))

    def _call(self, function: Any, arguments: tuple) -> Any:
        if isinstance(function, Record):  # what a call returned is called, as partial functions are
            return Record(function.kind, [function, arguments])
        name = _expect(function, Name).text
        if name in self.functions:
            return self.functions[name](arguments)
        return Record("dict" if name in _DICTIONARIES else name, [arguments] if arguments else None)


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise WeightsError(f"its pickle is damaged (a {type(value).__name__} instead of a {kind.__name__})")
    return value
