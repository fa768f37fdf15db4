# SPDX-License-Identifier: Apache-2.0
"""The cases of the suite: who registers one, what it rests on, and how it ends."""
import inspect

MUST, SHOULD = "MUST", "SHOULD"  # the specification's word
MAY = "MAY"  # the specification allows more than one answer; each is checked for its form
OURS = "OURS"  # the specification is silent; our server's promise

ALL = []


class Failed(Exception):
    """The server did not do what the case asks."""


class NotOffered(Exception):
    """The server does not have what the case is about."""


class Case:
    """One corner case: area.name, the section that it rests on, the specification's word, the function."""

    def __init__(self, function, section, level):
        self.area = function.__module__.removeprefix("area_")
        self.name = f"{self.area}.{function.__name__}"
        self.section = section
        self.level = level
        self.run = function
        self.text = inspect.getdoc(function) or ""


def case(section, level):
    """Registers a case. It gets the server under test and raises Failed or NotOffered, or returns."""
    def register(function):
        ALL.append(Case(function, section, level))
        return function
    return register


def each(section, level, values):
    """Registers one case for each of `values`: {name: arguments}; the function gets (server, *arguments)."""
    def register(function):
        for name, arguments in values.items():
            def one(server, arguments=arguments):
                function(server, *arguments)
            one.__name__ = f"{function.__name__}_{name}"
            one.__doc__ = function.__doc__
            one.__module__ = function.__module__
            ALL.append(Case(one, section, level))
        return function
    return register


def check(condition, message):
    if not condition:
        raise Failed(message)


def equal(got, expected, what):
    if got != expected:
        raise Failed(f"{what}: got {shown(got)}, expected {shown(expected)}")


def shown(value):
    """Bytes as hex, shortened; anything else as Python shows it."""
    if not isinstance(value, bytes):
        return repr(value)
    if len(value) <= 64:
        return f"[{value.hex(' ', 4)}] ({len(value)} bytes)"
    return f"[{value[:48].hex(' ', 4)} ... {value[-8:].hex(' ', 4)}] ({len(value)} bytes)"
