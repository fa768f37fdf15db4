# SPDX-License-Identifier: Apache-2.0
"""Just enough C++ to find functions, classes and awaits: tokens and brackets, no grammar."""
import re

TOKEN_RE = re.compile(
    r'R"(?P<tag>[^()\s\\]{0,16})\(.*?\)(?P=tag)"'   # raw string
    r'|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''   # string, character
    r"|//[^\n]*|/\*.*?\*/"                           # comments
    r"|^[ \t]*#(?:\\\n|[^\n])*"                      # preprocessor line, with continuations
    r"|[0-9](?:'?[0-9A-Za-z_.])*"                    # number, with digit separators
    r"|[A-Za-z_]\w*"
    r"|->|::|&&|\|\||==|!=|<=|>=|\+=|-=|\S", re.S | re.M)
OPEN = {"(": ")", "[": "]", "{": "}"}


class Token:
    __slots__ = ("text", "line", "match")

    def __init__(self, text, line):
        self.text = text
        self.line = line
        self.match = None  # index of the bracket that closes or opens this one


def tokenize(text):
    """Tokens without comments and preprocessor lines; strings become one token; brackets matched."""
    tokens, line, at = [], 1, 0
    for m in TOKEN_RE.finditer(text):
        line += text.count("\n", at, m.start())
        at = m.start()
        t = m.group(0)
        if t.startswith(("//", "/*")) or t.lstrip().startswith("#"):
            continue
        tokens.append(Token('""' if t[0] in "\"'" or t.startswith('R"') else t, line))
    stack = []
    for i, t in enumerate(tokens):
        if t.text in OPEN:
            stack.append(i)
        elif t.text in OPEN.values() and stack and OPEN[tokens[stack[-1]].text] == t.text:
            t.match = stack.pop()
            tokens[t.match].match = i
    return tokens


def _skip_template(tokens, i):
    """The index after `template <...>`, `i` standing on `template`."""
    depth, i = 0, i + 1
    while i < len(tokens):
        if tokens[i].text == "<":
            depth += 1
        elif tokens[i].text == ">":
            depth -= 1
            if depth == 0:
                return i + 1
        i += 1
    return i


TRANSPARENT = {"namespace", "class", "struct", "union", "extern"}


def _head_kind(tokens, start, brace):
    """What the brace after tokens[start:brace] opens: 'scope', 'function', or 'value'."""
    i = start
    while i < brace and tokens[i].text == "template":
        i = _skip_template(tokens, i)
    while i < brace and tokens[i].text in ("inline", "export", "static", "constexpr", "typedef"):
        i += 1
    first = tokens[i].text if i < brace else ""
    if first == "enum":
        return "value"
    flat, j = [], i  # the head without what is in round and square brackets
    while j < brace:
        flat.append(tokens[j].text)
        j = tokens[j].match + 1 if tokens[j].text in "([" and tokens[j].match else j + 1
    if first in TRANSPARENT and ("(" not in flat or first == "extern"):
        return "scope"
    if "=" in flat and "operator" not in flat:
        return "value"
    return "function" if "(" in flat else "value"


def _name(tokens, start, brace):
    """The function's name: what stands before its first round bracket."""
    i = start
    while i < brace and tokens[i].text == "template":
        i = _skip_template(tokens, i)
    while i < brace and tokens[i].text != "(":
        i = tokens[i].match + 1 if tokens[i].text == "[" and tokens[i].match else i + 1
    name, j = [], i - 1
    while j >= start and (tokens[j].text in ("::", "~") or re.match(r"\w", tokens[j].text)):
        if name and tokens[j].text not in ("::", "~") and name[-1] not in ("::", "~"):
            break
        name.append(tokens[j].text)
        j -= 1
    text = "".join(reversed(name))
    if re.fullmatch(r"TEST(_F|_P)?|RC_GTEST_PROP", text) and tokens[i].match:
        return text + "(" + " ".join(t.text for t in tokens[i + 1:tokens[i].match]) + ")"
    return text or "?"


def functions(tokens):
    """(name, first line, last line) of each function body at namespace or class scope."""
    out, start, i, end = [], 0, 0, len(tokens)
    while i < end:
        t = tokens[i].text
        if t in ("(", "[") and tokens[i].match:
            i = tokens[i].match + 1
            continue
        if t in (";", "}"):
            start = i + 1
        elif t == ":" and tokens[i - 1].text in ("public", "private", "protected"):
            start = i + 1
        elif t == "{" and tokens[i].match:
            kind, close = _head_kind(tokens, start, i), tokens[i].match
            after = tokens[close + 1].text if close + 1 < end else ""
            if kind == "scope":
                start = i + 1
            else:
                if kind == "function" and after not in (",", "{"):  # else: a_{1}, in a constructor
                    out.append((_name(tokens, start, i), tokens[start].line, tokens[close].line))
                    start = close + 1
                i = close + 1
                continue
        i += 1
    return out


def classes(tokens):
    """(name, line, is_struct, nested) of each class or struct that is defined here."""
    out, enclosing = [], []
    for i, t in enumerate(tokens):
        while enclosing and i > enclosing[-1]:
            enclosing.pop()
        if t.text not in ("class", "struct") or (i and tokens[i - 1].text in ("enum", "<", ",")):
            continue
        j = i + 1
        while j < len(tokens) and tokens[j].text == "[" and tokens[j].match:
            j = tokens[j].match + 1
        name = tokens[j].text if j < len(tokens) else ""
        if j + 1 < len(tokens) and tokens[j + 1].text == ">":  # a template's parameter
            continue
        while j < len(tokens) and tokens[j].text not in (";", "{", "(", ")", "="):
            j += 1
        if j < len(tokens) and tokens[j].text == "{" and re.match(r"[A-Za-z_]", name):
            out.append((name, t.line, t.text == "struct", bool(enclosing)))
            enclosing.append(tokens[j].match or len(tokens))
    return out
