# SPDX-License-Identifier: Apache-2.0
"""LIST_META_CONTEXT and SET_META_CONTEXT."""
import wire
from cases import MUST, NotOffered, OURS, SHOULD, case, check, each, equal
from target import BITMAP

LISTING, SETTING = wire.LIST_META_CONTEXT, wire.SET_META_CONTEXT
META = {"list": (LISTING,), "set": (SETTING,)}
BASE = b"base:allocation"
QUERY = "Metadata querying"
IDENTITY = b"blockmig:identity:"


def names(c, number, export, *queries):
    """The names that an option answers, in order; it must succeed."""
    c.option(number, wire.meta_data(export, *queries))
    found = c.replies(number)
    if found[-1][0] == wire.ERR_UNSUP:
        raise NotOffered("metadata contexts")
    equal(found[-1], (wire.REP_ACK, b""), "end of the contexts")
    for kind, data in found[:-1]:
        equal(kind, wire.REP_META_CONTEXT, "reply type")
        check(len(data) > 4, "a context without a name")
        if number == LISTING:
            equal(data[:4], bytes(4), "id in a list")
    return [data[4:] for _, data in found[:-1]]


def status_is_refused(c, export):
    """Enters the transmission: no context is selected there."""
    c.info(wire.GO, export)
    c.send(wire.request(wire.BLOCK_STATUS, 0, 4096, cookie=3))
    header = c.receive(4)
    rest = 12 if header == wire.be32(wire.SIMPLE_REPLY_MAGIC) else 16
    answer = header + c.receive(rest)
    error = answer[4:8]
    if rest == 16:
        error = c.receive(int.from_bytes(answer[16:20], "big"))[:4]
    equal(error, wire.be32(wire.EINVAL), "error of BLOCK_STATUS")
    c.send(wire.request(wire.DISC, 0, 0))
    c.expect_closed()


@each("NBD_OPT_SET_META_CONTEXT", SHOULD, META)
def contexts_need_structured_replies(server, number):
    with server.haggle() as c:
        c.option(number, wire.meta_data(server.export, BASE))
        kind, _ = c.reply(number)
        if kind == wire.REP_META_CONTEXT:
            check(number == LISTING, "selected without structured replies")
            c.replies(number)
            return
        check(kind in (wire.ERR_INVALID, wire.ERR_UNSUP, wire.ERR_EXT_HEADER_REQD), f"reply {kind:#x}")


@case("NBD_OPT_LIST_META_CONTEXT", MUST)
def list_without_queries_shows_all(server):
    with server.haggle_structured() as c:
        found = names(c, LISTING, server.export)
        check(BASE in found, "base:allocation is missing")
        check(all(b":" in name[1:] for name in found), "a name without a namespace")
        if server.ours:
            check(BITMAP in found, "the bitmap is missing")


@case("The base: metadata namespace", MUST)
def list_base_is_a_wildcard(server):
    with server.haggle_structured() as c:
        equal(names(c, LISTING, server.export, b"base:"), [BASE], "contexts")


@case("NBD_OPT_LIST_META_CONTEXT", MUST)
def list_of_a_name_shows_it(server):
    with server.haggle_structured() as c:
        equal(names(c, LISTING, server.export, BASE), [BASE], "contexts")


@each("NBD_OPT_LIST_META_CONTEXT", OURS, {"qemu": (b"qemu:",), "bitmaps": (b"qemu:dirty-bitmap:",),
                                          "name": (BITMAP,)})
def list_finds_bitmaps(server, query):
    server.need_ours()
    with server.haggle_structured() as c:
        check(BITMAP in names(c, LISTING, server.export, query), "the bitmap is missing")


@case("NBD_OPT_LIST_META_CONTEXT", OURS)
def list_shows_identities_to_who_asks_for_them(server):
    """What the disk is, whatever its address (nbdserver/README.md); no other query, and no selection, finds it."""
    server.need_ours()
    with server.haggle_structured() as c:
        found = names(c, LISTING, server.export, IDENTITY)
        equal([len(name) for name in found], [len(IDENTITY) + 32], "lengths of the identities")
        equal(names(c, LISTING, server.export, b"base:", IDENTITY), [BASE] + found, "contexts beside it")
        for queries in ([], [b"base:"], [b"qemu:"], [b"blockmig:"], [IDENTITY[:-1]]):
            check(not set(found) & set(names(c, LISTING, server.export, *queries)), f"shown to {queries}")
        equal(names(c, SETTING, server.export, IDENTITY, *found), [], "selected")
        status_is_refused(c, server.export)
    with server.haggle_structured() as c:
        equal(names(c, LISTING, server.export, IDENTITY), found, "identities on another connection")


UNKNOWN = {"namespace": (b"x-nobody:has-this",), "leaf_of_base": (b"base:nothing",), "dirty": (
    b"qemu:dirty-bitmap:nope",), "longest": (b"x-" + b"y" * 4090 + b":z",), "wildcard": (b"x-other:",)}


@each("NBD_OPT_LIST_META_CONTEXT", MUST, UNKNOWN)
def list_of_unknown_queries_is_one_ack(server, query):
    with server.haggle_structured() as c:
        equal(names(c, LISTING, server.export, query), [], "contexts")
        equal(names(c, LISTING, server.export, query, BASE), [BASE], "contexts beside it")


@each("NBD_OPT_SET_META_CONTEXT", MUST, UNKNOWN)
def set_leaves_unknown_queries_out(server, query):
    with server.haggle_structured() as c:
        equal(names(c, SETTING, server.export, query), [], "contexts")
        equal(names(c, SETTING, server.export, query, BASE), [BASE], "contexts beside it")


@case("The base: metadata namespace", MUST)
def set_base_selects_nothing(server):
    with server.haggle_structured() as c:
        equal(names(c, SETTING, server.export, b"base:"), [], "contexts")
        status_is_refused(c, server.export)


@each("NBD_OPT_SET_META_CONTEXT", SHOULD, {"qemu": (b"qemu:",), "bitmaps": (b"qemu:dirty-bitmap:",)})
def set_takes_no_wildcards(server, query):
    with server.haggle_structured() as c:
        equal(names(c, SETTING, server.export, query), [], "contexts")


@case("NBD_OPT_SET_META_CONTEXT", MUST)
def set_without_queries_selects_nothing(server):
    with server.haggle_structured() as c:
        names(c, SETTING, server.export, BASE)
        equal(names(c, SETTING, server.export), [], "contexts")
        status_is_refused(c, server.export)


@case("NBD_OPT_SET_META_CONTEXT", MUST)
def set_is_answered_by_context_and_ack(server):
    """Ids are the server's choice; ours begins with 1."""
    with server.haggle_structured() as c:
        equal(list(c.set_contexts(server.export, BASE)), [BASE], "contexts")
        if server.ours:
            c.option(SETTING, wire.meta_data(server.export, BASE))
            c.expect(wire.option_reply(SETTING, wire.REP_META_CONTEXT, wire.be32(1) + BASE) +
                     wire.option_reply(SETTING, wire.REP_ACK))


@case("NBD_OPT_SET_META_CONTEXT", MUST)
def set_of_a_duplicate_selects_it_once(server):
    with server.haggle_structured() as c:
        equal(names(c, SETTING, server.export, BASE, BASE, BASE), [BASE], "contexts")


@case("NBD_OPT_SET_META_CONTEXT", MUST)
def set_of_two_gives_two_ids(server):
    server.need_ours()
    with server.haggle_structured() as c:
        equal(set(c.set_contexts(server.export, BITMAP, BASE)), {BASE, BITMAP}, "contexts")


FAILING = {"unknown_export": wire.option(SETTING, wire.meta_data(b"there-is-none", BASE)),
           "trailing_byte": None, "no_data": wire.option(SETTING),
           "9000_bytes": wire.option(SETTING, b"m" * 9000)}


@each("NBD_OPT_SET_META_CONTEXT", MUST, {name: (name,) for name in FAILING})
def failed_set_clears_the_selection(server, name):
    """Not only a failed one replaces: it leaves nothing."""
    sent = FAILING[name] or wire.option(SETTING, wire.meta_data(server.export, BASE) + b"x")
    with server.haggle_structured() as c:
        equal(names(c, SETTING, server.export, BASE), [BASE], "contexts")
        c.send(sent)
        c.expect_error(SETTING, wire.ERR_INVALID, wire.ERR_UNKNOWN, wire.ERR_TOO_BIG)
        status_is_refused(c, server.export)


@case("NBD_OPT_SET_META_CONTEXT", MUST)
def later_set_replaces(server):
    with server.haggle_structured() as c:
        names(c, SETTING, server.export, BASE)
        names(c, SETTING, server.export, b"x-none:such")
        status_is_refused(c, server.export)


@case("NBD_OPT_LIST_META_CONTEXT", MUST)
def list_does_not_change_the_selection(server):
    with server.haggle_structured() as c:
        context = c.set_contexts(server.export, BASE)[BASE]
        names(c, LISTING, server.export)
        names(c, LISTING, server.export, b"x-none:such")
        c.info(wire.GO, server.export)
        c.send(wire.request(wire.BLOCK_STATUS, 0, 4096, wire.REQ_ONE, cookie=3))
        header = c.receive(20)
        equal(header[:8], wire.chunk(wire.STATUS, 3)[:8], "a chunk of status")
        equal(c.receive(int.from_bytes(header[16:], "big"))[:4], wire.be32(context), "context id")
        c.send(wire.request(wire.DISC, 0, 0))
        c.expect_closed()


@case(QUERY, MUST)
def selection_for_another_export_is_none(server):
    with server.haggle_structured() as c:
        equal(names(c, SETTING, server.has("large"), BASE), [BASE], "contexts")
        status_is_refused(c, server.export)


@case("NBD_OPT_SET_META_CONTEXT", MUST)
def selection_holds_for_export_name(server):
    with server.haggle_structured() as c:
        context = c.set_contexts(server.export, BASE)[BASE]
        c.option(wire.EXPORT_NAME, server.export)
        c.receive(10)
        c.send(wire.request(wire.BLOCK_STATUS, 0, 4096, wire.REQ_ONE, cookie=4))
        equal(c.receive(24)[20:], wire.be32(context), "context id")
        c.receive(8)
        c.send(wire.request(wire.DISC, 0, 0))
        c.expect_closed()


@each("NBD_OPT_LIST_META_CONTEXT", OURS, META)
def contexts_of_a_missing_export_are_unknown(server, number):
    with server.haggle_structured() as c:
        c.option(number, wire.meta_data(server.missing, BASE))
        c.expect_error(number, wire.ERR_UNKNOWN)
        names(c, number, server.export, BASE)


@each("Metadata querying", MUST, META)
def contexts_work_with_extended_headers(server, number):
    with server.haggle() as c:
        c.negotiate(wire.EXTENDED_HEADERS)
        equal(names(c, number, server.export, BASE), [BASE], "contexts")


def malformed(name):
    good = wire.meta_data(name, BASE)
    count_at = 4 + len(name)
    return {"no_data": b"", "half_length": good[:2], "length_only": good[:4], "no_count": good[:count_at],
            "half_count": good[:count_at + 3], "no_query": good[:count_at + 4],
            "half_query_length": good[:count_at + 6], "half_query": good[:-1], "trailing_byte": good + b"x",
            "trailing_query": good + wire.string32(BASE), "name_beyond_the_end": wire.be32(500) + good[4:],
            "name_length_minus_one": wire.be32(2**32 - 1) + good[4:],
            "count_minus_one": good[:count_at] + wire.be32(2**32 - 1) + good[count_at + 4:],
            "count_2_30": good[:count_at] + wire.be32(2**30) + good[count_at + 4:],
            "query_beyond_the_end": good[:count_at + 4] + wire.be32(16) + BASE,
            "query_length_minus_one": good[:count_at + 4] + wire.be32(2**32 - 1) + BASE,
            "query_length_wraps": good[:count_at + 4] + wire.be32(2**32 - 8) + BASE}


@each("NBD_OPT_LIST_META_CONTEXT", MUST, {f"{kind}_{name}": (number, name) for name in malformed(b"x")
                                          for kind, (number,) in META.items()})
def malformed_query_is_invalid_and_in_step(server, number, name):
    """Servers have died on what follows trailing bytes."""
    with server.haggle_structured() as c:
        c.option(number, malformed(server.export)[name])
        found = c.replies(number)
        equal(found[-1][0], wire.ERR_INVALID, "reply")
        if server.ours:
            equal(len(found), 1, "replies")
        names(c, number, server.export, BASE)


@each("NBD_OPT_LIST_META_CONTEXT", MUST, META)
def many_queries_are_answered(server, number):
    """500 of one namespace that nobody has."""
    with server.haggle_structured() as c:
        c.option(number, wire.meta_data(server.export, *[b"x-a:b"] * 500, BASE))
        found = c.replies(number)
        check(found[-1][0] in (wire.REP_ACK, wire.ERR_TOO_BIG), f"reply {found[-1][0]:#x}")
        if server.ours:
            equal([data[4:] for _, data in found[:-1]], [BASE], "contexts")
