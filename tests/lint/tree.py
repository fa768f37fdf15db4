# SPDX-License-Identifier: Apache-2.0
"""The source tree as the lint rules see it: which files there are, their lines, their layers."""
import os
import re
import subprocess

CXX = (".cc", ".h")
LAYER_RE = re.compile(r"blockmig_layer\s*\(\s*(\w+)\s+(.*?)\)", re.S)
INCLUDE_RE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


class Layer:
    """One blockmig_layer() call: a folder, and the layers it may see."""

    def __init__(self, name, folder, deps):
        self.name = name
        self.folder = folder
        self.deps = deps


class Tree:
    """All files that are, or would be, under version control. Paths are relative, with slashes."""

    def __init__(self, root):
        self.root = os.path.abspath(root)
        self.files = sorted(self._list())
        self._cache = {}

    def _list(self):
        git = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", self.root, "ls-files", "-z", "--cached",
             "--others", "--exclude-standard"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        top = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", self.root, "rev-parse", "--show-toplevel"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        same = os.path.realpath(top.stdout.decode().strip() or "/") == os.path.realpath(self.root)
        if git.returncode == 0 and same:
            names = {n for n in git.stdout.decode().split("\0") if n}
            return [n for n in names if os.path.isfile(os.path.join(self.root, n))]
        return list(self._walk())  # an unpacked archive

    def _walk(self):
        for folder, dirs, names in os.walk(self.root):
            if folder == self.root:
                dirs[:] = [d for d in dirs if d not in (".git", "build")]
            dirs[:] = [d for d in dirs if d != "__pycache__"]
            for n in names:
                yield os.path.relpath(os.path.join(folder, n), self.root).replace(os.sep, "/")

    def text(self, path):
        """The file's text; None if it is not text."""
        if path not in self._cache:
            with open(os.path.join(self.root, path), "rb") as f:
                data = f.read()
            try:
                self._cache[path] = None if b"\0" in data else data.decode()
            except UnicodeDecodeError:
                self._cache[path] = None
        return self._cache[path]

    def cxx(self):
        return [f for f in self.files if f.endswith(CXX)]

    def sources(self):
        """Files that people write as code: C++, Python, shell, CMake."""
        for f in self.files:
            if f.endswith(CXX + (".py", ".sh", ".cmake")) or f.endswith("CMakeLists.txt"):
                yield f
            elif "." not in os.path.basename(f) and (self.text(f) or "").startswith("#!"):
                yield f

    def layers(self):
        """The link table: every blockmig_layer() of every CMakeLists.txt, by name."""
        found = {}
        for f in self.files:
            if not f.endswith("CMakeLists.txt"):
                continue
            for name, rest in LAYER_RE.findall(re.sub(r"#[^\n]*", "", self.text(f) or "")):
                args, key = {}, None
                for word in rest.split():
                    if word in ("FOLDER", "DEPS", "PRIVATE"):
                        key = word
                        args[key] = []
                    elif key:
                        args[key].append(word)
                found[name] = Layer(name, args["FOLDER"][0], args.get("DEPS", []))
        return found

    def includes(self, path):
        """(line, '<' or '"', what) of each include of a file."""
        for number, line in enumerate((self.text(path) or "").splitlines(), 1):
            m = INCLUDE_RE.match(line)
            if m:
                yield number, m.group(1), m.group(2)
