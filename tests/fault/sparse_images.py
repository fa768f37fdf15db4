# SPDX-License-Identifier: Apache-2.0
"""Sparse images with something in a few places, and what a move must have made of them."""
import os

from moves import MIB

PIECE = 2 * MIB
MOST_BYTES = 64 * MIB  # that a target may take


def put(path, size, places):
    """A sparse file of `size` bytes with something in these places."""
    with open(path, "wb") as f:
        f.truncate(size)
        for place in places:
            f.seek(place)
            f.write(bytes([1 + place // MIB % 250]) * PIECE)


def at(path, place):
    with open(path, "rb") as f:
        f.seek(place)
        return f.read(PIECE)


def check(source, target, data, poison):
    """The data has arrived, nothing is left of the poison, and holes take no room (trap 9)."""
    for place in data:
        assert at(source, place) == at(target, place), f"differs at {place}"
    for place in poison:
        assert not any(at(target, place)), f"what was in the target at {place} is still there"
    taken = os.stat(target).st_blocks * 512
    assert taken < MOST_BYTES, f"the target takes {taken} bytes"
