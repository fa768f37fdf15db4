# SPDX-License-Identifier: Apache-2.0
"""What a copy of a disk as of one instant must hold, by what the disk's one writer noted: all writes up to one, and
none after it."""
import lives


def _instants(records, found, power_was_lost):
    """What was allowed when the newest write of the copy had been made, and when each later life began: what a death
    took with it is not in the copy of a later instant."""
    newest = max((at for at, (kind, block, number) in enumerate(records)
                  if kind == b"b" and number in found[block]), default=-1)
    yield lives.allowed_by(records[:newest + 1], power_was_lost, alive=True)
    for at in range(newest + 1, len(records)):
        if records[at][0] == b"s":
            yield lives.allowed_by(records[:at + 1], power_was_lost)


def check(log_path, image, blocks, power_was_lost=False):
    """The image is what the disk was at one instant."""
    found = lives.words_of(image, blocks)
    wrong = []
    for allowed in _instants(list(lives.records_of(log_path)), found, power_was_lost):
        wrong = [(block, sorted(found[block])[:4], sorted(allowed.get(block, {lives.first_number(block)})))
                 for block in range(blocks) if not found[block] <= allowed.get(block, {lives.first_number(block)})]
        if not wrong:
            return
    raise AssertionError(f"{image} is of no instant: {len(wrong)} blocks, {wrong[:3]}")
