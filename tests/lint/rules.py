# SPDX-License-Identifier: Apache-2.0
"""The rules. Each takes a Tree and yields Violation; CONTRIBUTING.md says why each exists."""
import ast
import collections
import os
import re
import subprocess

import awaits
import cxx

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70
BANNED_WORDS = {"util", "utils", "common", "manager", "managers", "helper", "helpers", "misc"}
THIRD_PARTY = ("rocksdb/", "roaring/", "libnbd.h", "liburing.h", "gnutls/", "httplib.h", "nlohmann/",
               "CLI/", "spdlog/", "fmt/", "xxhash.h", "zstd.h", "lz4.h", "toml++/", "prometheus/")
# Each in a form that does not match itself.
BANNED_TEXT = [
    (re.compile(r"(?<![\w.])/wor[k]/"), "path of one machine"),
    (re.compile(r"(?<![\w.])/(hom[e]|roo[t])/\w"), "path of one machine"),
    (re.compile(r"(?<![\w.])/tm[p]/b-"), "path of one machine"),
    (re.compile(r"\b(TO[D]O|FIXM[E]|XX[X]|HAC[K])\b"), "unfinished work: finish it or file an issue"),
]
URL_RE = re.compile(r"\bhttps?://([A-Za-z0-9.\-]+)")
KNOWN_HOSTS = {"localhost", "127.0.0.1", "example.com", "example.org", "github.com", "www.apache.org",
               "json-schema.org", "keepachangelog.com", "semver.org", "www.w3.org", "host",
               "www.qemu.org", "libguestfs.org", "nbd.sourceforge.io"}

# key: what an exemption names; size: the number that an exemption limits, 0 where there is none.
Violation = collections.namedtuple("Violation", "key line message size", defaults=(0,))


def layering(tree):
    """A layer includes itself and its DEPS only; quoted includes are paths from the top, in tests/ also
    of a file beside."""
    layers = tree.layers()
    by_folder = {layer.folder: layer for layer in layers.values()}
    for layer in layers.values():
        for dep in layer.deps:
            if dep not in layers:
                yield Violation(layer.folder, 1, f"links the unknown layer {dep}")
    yield from _cycles(layers)
    known = set(tree.files)
    for path in tree.cxx():
        own = by_folder.get(os.path.dirname(path))
        for line, style, what in tree.includes(path):
            target = by_folder.get(os.path.dirname(what))
            beside = path.startswith("tests/") and f"{os.path.dirname(path)}/{what}" in known
            if style == '"' and ".." not in what.split("/") and what not in known and not beside:
                yield Violation(path, line, f'"{what}" is not a path from the top of the tree')
            elif style == "<" and target:
                yield Violation(path, line, f"<{what}> is ours: use quotes")
            elif own and target and target is not own and target.name not in own.deps:
                yield Violation(path, line, f"{own.name} includes {what}, but does not link "
                                            f"{target.name}")
            elif own and not target and style == '"' and what in known:
                yield Violation(path, line, f"{own.name} includes {what}, which is no layer")


def _cycles(layers):
    def walk(name, path):
        if name in path:
            return path[path.index(name):] + [name]
        for dep in layers[name].deps if name in layers else []:
            found = walk(dep, path + [name])
            if found:
                return found
        return None

    for name, layer in layers.items():
        found = walk(name, [])
        if found and found[0] == name:
            yield Violation(layer.folder, 1, "cycle: " + " > ".join(found))


def parent_include(tree):
    """No include climbs out of its folder."""
    for path in tree.cxx():
        for line, _, what in tree.includes(path):
            if ".." in what.split("/"):
                yield Violation(path, line, f'"{what}": write the path from the top')


def file_length(tree):
    """No source file is longer than MAX_FILE_LINES."""
    for path in tree.sources():
        count = len(tree.text(path).splitlines())
        if count > MAX_FILE_LINES:
            yield Violation(path, count, f"{count} lines, at most {MAX_FILE_LINES}", count)


def function_length(tree):
    """No C++ or Python function is longer than MAX_FUNCTION_LINES."""
    for path in tree.sources():
        if path.endswith(cxx_suffixes()):
            found = cxx.functions(cxx.tokenize(tree.text(path)))
        elif path.endswith(".py") or re.match(r"#!.*python", tree.text(path)):
            nodes = ast.walk(ast.parse(tree.text(path)))
            found = [(n.name, n.lineno, n.end_lineno) for n in nodes
                     if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
        else:
            continue
        for name, first, last in found:
            count = last - first + 1
            if count > MAX_FUNCTION_LINES:
                yield Violation(f"{path}:{name}", first,
                                f"{name} has {count} lines, at most {MAX_FUNCTION_LINES}", count)


def cxx_suffixes():
    return (".cc", ".h")


def clang_format(tree):
    """clang-format would change nothing."""
    paths = tree.cxx()
    if not paths:
        return
    run = subprocess.run(["clang-format", "--dry-run", "--ferror-limit=1", *paths], cwd=tree.root,
                         stderr=subprocess.PIPE, check=False, text=True)
    if run.returncode != 0 and not run.stderr:
        raise RuntimeError("clang-format failed")
    for m in re.finditer(r"^(\S+?):(\d+):\d+: (?:warning|error): (.*)$", run.stderr, re.M):
        yield Violation(m.group(1), int(m.group(2)), m.group(3))


def banned_names(tree):
    """No folder, file or class is called after nothing in particular."""
    for path in tree.files:
        words = set(re.split(r"[/_.\-]", path.lower()))
        for word in sorted(words & BANNED_WORDS):
            yield Violation(path, 1, f"'{word}' says nothing: name it after what it is")
    for path in tree.cxx():
        for name, line, _, _ in cxx.classes(cxx.tokenize(tree.text(path))):
            words = {w.lower() for w in re.findall(r"[A-Z][a-z0-9]*", name)}
            for word in sorted(words & BANNED_WORDS):
                yield Violation(path, line, f"class {name}: '{word}' says nothing")


def _documented_folders(tree):
    folders = {os.path.dirname(f) for f in tree.files}
    for f in sorted(folders):
        top, _, rest = f.partition("/")
        if top in ("blockmig", "bitmap", "nbdserver", "sharedfs", "tools"):
            if any(os.path.dirname(x) == f and x.endswith((".cc", ".h")) for x in tree.files):
                yield f
            elif "/" not in f:
                yield f
        elif top == "tests" and rest and "/" not in rest:
            yield f


def readme(tree):
    """Every folder of code has a README.md."""
    for folder in _documented_folders(tree):
        if folder + "/README.md" not in tree.files:
            yield Violation(folder, 1, "has no README.md")


def readme_names_classes(tree):
    """Every class that a header of a layer defines is named in the README of its folder."""
    for folder in _documented_folders(tree):
        text = tree.text(folder + "/README.md") if folder + "/README.md" in tree.files else None
        if text is None or folder.startswith("tests"):
            continue
        for path in tree.cxx():
            if os.path.dirname(path) != folder or not path.endswith(".h"):
                continue
            for name, line, is_struct, nested in cxx.classes(cxx.tokenize(tree.text(path))):
                if not is_struct and not nested and not re.search(rf"\b{name}\b", text):
                    yield Violation(path, line, f"class {name} is not in {folder}/README.md")


def spdx(tree):
    """Every source file begins with its licence."""
    for path in tree.sources():
        head = tree.text(path).splitlines()[:2]
        if head and not any("SPDX-License-Identifier: Apache-2.0" in line for line in head):
            yield Violation(path, 1, "no SPDX-License-Identifier line at the top")


def await_position(tree):
    """co_await is a statement or an initialiser; see awaits.py."""
    for path in tree.cxx():
        if "co_await" in tree.text(path):
            for line, message in awaits.violations(cxx.tokenize(tree.text(path))):
                yield Violation(path, line, message)


def third_party_headers(tree):
    """A header that code outside its folder can reach includes no third-party library."""
    folders = {layer.folder for layer in tree.layers().values()}
    headers = {f for f in tree.cxx() if f.endswith(".h") and os.path.dirname(f) in folders}
    public, frontier = set(), set()
    for path in tree.cxx():
        for _, style, what in tree.includes(path):
            if style == '"' and what in headers and os.path.dirname(what) != os.path.dirname(path):
                # a layer's own unit tests may look inside it
                own_test = path.startswith("tests/unit/" + os.path.basename(os.path.dirname(what)))
                if not own_test:
                    frontier.add(what)
    while frontier:
        path = frontier.pop()
        public.add(path)
        frontier |= {w for _, s, w in tree.includes(path) if s == '"' and w in headers} - public
    for path in sorted(public):
        for line, _, what in tree.includes(path):
            if what.startswith(THIRD_PARTY):
                yield Violation(path, line, f"public header includes {what}: hide it in the .cc")


def contract_is_tested(tree):
    """What blockmig-modes(7) promises has a number a line, without gaps, and a test that cites it: (M7)."""
    page = "tools/man/blockmig-modes.7.scd"
    lines = (tree.text(page) or "").splitlines() if page in tree.files else []
    promised = [(number, int(m.group(1))) for number, line in enumerate(lines, 1)
                if (m := re.match(r"\*M(\d+)\* ", line))]
    cited = set()
    for path in tree.sources():
        if path.startswith("tests/") and not path.startswith("tests/lint/"):
            for group in re.findall(r"\(((?:[A-Z]\d+,? ?)+)\)", tree.text(path) or ""):
                cited |= {int(m) for m in re.findall(r"\bM(\d+)", group)}
    for i, (number, m) in enumerate(promised, 1):
        if m != i:
            yield Violation(page, number, f"M{m} where M{i} should be")
        if m not in cited:
            yield Violation(page, number, f"no test cites (M{m})")
    for m in sorted(cited - {m for _, m in promised}):
        yield Violation(page, 1, f"a test cites (M{m}), which is not there")


def banned_text(tree):
    """No path of one machine, no note of unfinished work, no address that nobody vetted."""
    for path in tree.files:
        for number, line in enumerate((tree.text(path) or "").splitlines(), 1):
            for pattern, why in BANNED_TEXT:
                m = pattern.search(line)
                if m:
                    yield Violation(path, number, f"'{m.group(0)}': {why}")
            for host in URL_RE.findall(line):
                if "." in host and host.lower().rstrip(".") not in KNOWN_HOSTS:
                    yield Violation(path, number, f"'{host}' is not a known host (rules.py)")


def traps(tree):
    """Every trap of CONTRIBUTING.md is in a unit test's name and in the table of tests/sim/README.md, with a
    planted bug or the word that it is not planted."""
    if "CONTRIBUTING.md" not in tree.files:
        return
    section = tree.text("CONTRIBUTING.md").partition("\n## Traps")[2].partition("\n## ")[0]
    table, bugs = "tests/sim/README.md", tree.text("tests/sim/planted_bugs.h")
    rows = dict(re.findall(r"(?m)^\| (\d+) \|[^|]*\|([^|]*)\|$", tree.text(table)))
    cited = set()
    for path in tree.files:
        if path.startswith("tests/unit/") and path.endswith(".cc"):
            for name in re.findall(r"Trap(\d+(?:And\d+)*)", tree.text(path) or ""):
                cited.update(name.split("And"))
    for trap in re.findall(r"(?m)^(\d+)\. ", section):
        if trap not in cited:
            yield Violation("CONTRIBUTING.md", 1, f"no unit test has Trap{trap} in its name")
        planted = re.findall(r"`([a-z-]+)`", rows.get(trap, ""))
        if not planted and "not planted: " not in rows.get(trap, ""):
            yield Violation(table, 1, f"trap {trap} is not in the table, or has no planted bug")
        for bug in planted:
            if f'"{bug}"' not in bugs:
                yield Violation(table, 1, f"trap {trap}: no planted bug is called {bug}")


RULES = {f.__name__: f for f in (
    layering, parent_include, file_length, function_length, clang_format, banned_names, readme,
    readme_names_classes, spdx, await_position, third_party_headers, contract_is_tested, traps,
    banned_text)}
