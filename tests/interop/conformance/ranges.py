# SPDX-License-Identifier: Apache-2.0
"""Requests that reach outside an export, with the ways in which their sum wraps."""


def ranges(size):
    """Offsets and lengths that are not inside an export of `size` bytes."""
    return {"behind": (size, 1), "across": (size - 1, 2), "far": (size + (1 << 40), 4096),
            "whole_and_one": (0, min(size + 1, 2**32 - 1)), "wraps": (2**64 - 512, 1024),
            "wraps_to_zero": (2**64 - 4096, 4096), "last_offset": (2**64 - 1, 1),
            "negative": (2**63, 4096), "longest": (1, 2**32 - 1)}


OUTSIDE = {name: (name,) for name in ranges(1)}
