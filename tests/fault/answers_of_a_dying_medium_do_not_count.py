# SPDX-License-Identifier: Apache-2.0
"""What the power-loss campaign relies on: answers from before the power goes, and none from while it does."""
import os

import lives
from moves import daemon

BEGUN, DURABLE, ANSWERED, FLUSHED, LIFE = b"b", b"u", b"a", b"f", b"s"
UNTOUCHED = {lives.FIRST_NUMBER}


def check(log):
    def note(kind, block=0, number=0):
        with open(log, "ab") as records:
            records.write(lives.RECORD.pack(kind, block, number))

    def write(block, number, durably=False):
        note(BEGUN, block, number)
        note(DURABLE if durably else ANSWERED, block, number)

    note(LIFE)
    write(1, 10)
    note(FLUSHED)
    write(2, 20)
    lives.note_power_loss(log)
    write(3, 30, durably=True)
    write(1, 11)
    note(FLUSHED)
    note(LIFE)
    write(4, 40, durably=True)
    write(5, 50)
    note(FLUSHED)
    allowed = lives.allowed_numbers(log, power_was_lost=True)
    assert allowed == {1: {10, 11}, 2: UNTOUCHED | {20}, 3: UNTOUCHED | {30}, 4: {40}, 5: {50}}, allowed


with daemon.scratch() as scratch:
    check(os.path.join(scratch, "writes"))
