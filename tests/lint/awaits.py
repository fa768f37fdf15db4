# SPDX-License-Identifier: Apache-2.0
"""Where a co_await may stand.

GCC 12 miscompiles `if (co_await x)` in a coroutine without an earlier local, and destroys a temporary
aggregate that is passed by value into a coroutine twice. So a co_await is a whole statement or the
initialiser of (or an assignment to) a named variable, and its arguments are named variables.
"""

BLOCK_STARTS = {";", "{", "}", "else", "do", ":"}
OPERATORS = {"?", "&&", "||", "==", "!=", "<=", ">="}


def _enclosing(tokens):
    """For each token the index of the innermost open bracket around it, or None."""
    stack, out = [], []
    for i, t in enumerate(tokens):
        if t.text in ")]}" and t.match is not None and stack:
            stack.pop()
        out.append(stack[-1] if stack else None)
        if t.text in "([{" and t.match is not None:
            stack.append(i)
    return out


def _statement_head(tokens, i):
    """True if the token before i is a `)` after which a statement may begin."""
    close = tokens[i - 1]
    if close.text != ")" or close.match is None:
        return False
    before = tokens[close.match - 1].text if close.match else ""
    inside = [t.text for t in tokens[close.match + 1:i - 1]]
    return before in ("if", "for", "while", "switch", "constexpr") or inside == ["void"]


def _end(tokens, i):
    """(index of what ends the expression after co_await, the operators met on the way)."""
    operators = []
    j = i + 1
    while j < len(tokens):
        t = tokens[j]
        if t.text in "([{" and t.match is not None:
            j = t.match + 1
            continue
        if t.text in (";", ")", "]", "}"):
            break
        if t.text in OPERATORS:
            operators.append(t.text)
        j += 1
    return j, operators


def _aggregate(tokens, i, end):
    """The line of a braced temporary among the arguments of tokens[i:end], or None."""
    j = i
    while j < end:
        t = tokens[j]
        if t.text == "{" and t.match is not None:
            before = tokens[j - 1].text
            lambda_body = before in (")", "]", "mutable", "noexcept")
            if not lambda_body and not _after_trailing_return(tokens, i, j):
                if t.match != j + 1:  # T{} is as bad in principle, but has nothing to destroy twice
                    return t.line
            j = t.match
        j += 1
    return None


def _after_trailing_return(tokens, start, brace):
    """True for the brace of `[...](...) -> T {`."""
    j = brace - 1
    while j > start and tokens[j].text not in (";", "(", ",", "{", "}", ")"):
        j -= 1
    return any(t.text == "->" for t in tokens[j:brace]) and tokens[j].text == ")"


def violations(tokens):
    """(line, message) of every co_await that stands where it must not."""
    enclosing = _enclosing(tokens)
    for i, t in enumerate(tokens):
        if t.text != "co_await" or (i and tokens[i - 1].text == "operator"):
            continue
        around = enclosing[i]
        before = tokens[i - 1].text if i else ""
        end, operators = _end(tokens, i)
        if around is not None and tokens[around].text != "{":
            yield t.line, "co_await inside brackets (condition, argument or subexpression)"
        elif before == "co_return":
            yield t.line, "co_return co_await: name the result first"
        elif before != "=" and before not in BLOCK_STARTS and not _statement_head(tokens, i):
            yield t.line, f"co_await after '{before}': not a statement and not an initialiser"
        elif end >= len(tokens) or tokens[end].text != ";":
            yield t.line, "co_await in a braced list"
        elif operators:
            yield t.line, f"co_await is an operand of '{operators[0]}': name the result first"
        else:
            line = _aggregate(tokens, i, end)
            if line is not None:
                yield line, "braced temporary passed in a co_await expression: name it and move it"
