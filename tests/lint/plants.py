# SPDX-License-Identifier: Apache-2.0
"""A small clean tree, and for each rule what to plant in it: bad trees and good ones."""

SPDX = "// SPDX-License-Identifier: Apache-2.0\n"
HASH = "# SPDX-License-Identifier: Apache-2.0\n"

CLEAN = {
    ".clang-format": "BasedOnStyle: Google\nColumnLimit: 100\n",
    "blockmig/README.md": "# blockmig\n",
    "blockmig/base/README.md": "# base\n- `Thing` is a thing\n",
    "blockmig/base/CMakeLists.txt": HASH + "blockmig_layer(base FOLDER blockmig/base)\n",
    "blockmig/base/thing.h": SPDX + "#pragma once\nclass Thing {\n public:\n  int size() const;\n};\n",
    "blockmig/base/thing.cc":
        SPDX + '#include "blockmig/base/thing.h"\n\nint Thing::size() const { return 1; }\n',
    "bitmap/README.md": "# bitmap\n",
    "bitmap/CMakeLists.txt": HASH + "blockmig_layer(bitmap FOLDER bitmap DEPS base)\n",
    "bitmap/map.h": SPDX + '#include "blockmig/base/thing.h"\n',
    "bitmap/map.cc": SPDX + '#include "bitmap/map.h"\n\n#include <roaring/roaring.hh>\n',
    "nbdserver/README.md": "# nbdserver\n",
    "nbdserver/CMakeLists.txt": HASH + "blockmig_layer(nbdserver FOLDER nbdserver DEPS base)\n",
    "nbdserver/wire.cc": SPDX + '#include "blockmig/base/thing.h"\n',
    "tests/unit/README.md": "# unit\n",
    "tools/README.md": "# tools\n",
    "tools/main.cc": SPDX + '#include "bitmap/map.h"\n',
}


def coroutine(body):
    return {"bitmap/map.cc": SPDX + '#include "bitmap/map.h"\n\nTask<int> f() {\n  ' + body + "\n}\n"}


def function(lines, head="int f() {"):
    return SPDX + head + "\n" + "  g();\n" * (lines - 2) + "}\n"


LONG_CTOR = function(72, "struct A {\n  A();\n  int a_;\n};\nA::A() : a_{1}, b_{2} {")
TEMPLATED = function(72, "template <typename T, typename U = std::vector<int>>\nauto f(T t) -> U {")
MODES = "tools/man/blockmig-modes.7.scd"
LONG_PY = HASH + "def f():\n" + "    g()\n" * 70

TRAP = {"CONTRIBUTING.md": "# C\n\n## Traps\n\n1. One.\n\n## Tests\n\n2. Two.\n",
        "tests/unit/base/a.cc": SPDX + "TEST(A, B_Trap1) {}\n",
        "tests/sim/README.md": "| 1 | `B` | `bug-a` (unit) |\n",
        "tests/sim/planted_bugs.h": SPDX + '#pragma once\n// {"bug-a"}\n'}

# rule: (trees to object to, trees to accept); each a dict of files laid over CLEAN, None removes one.
PLANTS = {
    "layering": (
        [{"bitmap/map.cc": SPDX + '#include "nbdserver/wire.h"\n', "nbdserver/wire.h": SPDX},
         {"blockmig/base/thing.h": SPDX + '#include "bitmap/map.h"\n'},
         {"bitmap/map.cc": SPDX + '#include "map.h"\n'},
         {"tests/unit/base/a.cc": SPDX + '#include "b.h"\n', "tests/unit/bitmap/b.h": SPDX},
         {"bitmap/map.cc": SPDX + "#include <bitmap/map.h>\n"},
         {"bitmap/map.cc": SPDX + '#include "tools/x.h"\n', "tools/x.h": SPDX},
         {"bitmap/CMakeLists.txt": HASH + "blockmig_layer(bitmap FOLDER bitmap DEPS base gone)\n"},
         {"blockmig/base/CMakeLists.txt":
          HASH + "blockmig_layer(base FOLDER blockmig/base DEPS bitmap)\n"}],
        [{"nbdserver/CMakeLists.txt":
          HASH + "# all\nblockmig_layer(nbdserver FOLDER nbdserver\n  DEPS bitmap base PRIVATE x)\n",
          "nbdserver/wire.cc": SPDX + '#include "bitmap/map.h"\n'},
         {"tests/unit/base/a.cc": SPDX + '#include "b.h"\n', "tests/unit/base/b.h": SPDX}]),
    "parent_include": (
        [{"bitmap/map.h": SPDX + '#include "../blockmig/base/thing.h"\n'},
         {"bitmap/map.h": SPDX + '#  include "blockmig/../blockmig/base/thing.h"\n'}],
        [{"bitmap/map.h": SPDX + '#include "blockmig/base/thing.h"  // not ../thing.h\n'}]),
    "file_length": (
        [{"bitmap/map.h": SPDX + "\n" * 400}, {"tests/unit/x.py": HASH + "\n" * 400},
         {"tools/check": "#!/bin/sh\n" + HASH + "\n" * 400}],
        [{"bitmap/map.h": SPDX + "\n" * 399}, {"tools/README.md": "\n" * 1000}]),
    "function_length": (
        [{"bitmap/map.cc": function(71)}, {"bitmap/map.cc": LONG_CTOR}, {"bitmap/map.cc": TEMPLATED},
         {"bitmap/map.cc": SPDX + "namespace a {\nclass B {\n public:\n" +
          function(71)[len(SPDX):] + "};\n}\n"},
         {"bitmap/map.cc": function(71, "TEST(A, B) {")},
         {"bitmap/map.cc": function(71, "bool operator==(const A& a) {")},
         {"tests/unit/x.py": LONG_PY}, {"tools/x": "#!/usr/bin/env python3\n" + LONG_PY}],
        [{"bitmap/map.cc": function(70)}, {"bitmap/map.cc": function(90, "constexpr int kA[] = {")},
         {"bitmap/map.cc": SPDX + "// {\nauto s = \"{(\";\nauto c = '{';\nnamespace {\n" +
          "int a = 1'000;\n" * 90 + "}\n"}]),
    "clang_format": (
        [{"bitmap/map.cc": SPDX + "int  a;\n"}, {"bitmap/map.h": SPDX + "int a ;\n"}],
        [{"bitmap/map.cc": SPDX + "int a;\n"}]),
    "banned_names": (
        [{"blockmig/utils/a.md": ""}, {"bitmap/map_helper.h": SPDX}, {"tools/common.py": HASH},
         {"bitmap/map.h": SPDX + "class DiskManager {\n};\n"},
         {"bitmap/map.cc": SPDX + "struct [[nodiscard]] JobHelper final : Base {\n};\n"}],
        [{"bitmap/map.h": SPDX + "class Helpful {\n};\nclass DiskManager;\n"},
         {"bitmap/commonality.h": SPDX}]),
    "readme": (
        [{"bitmap/README.md": None}, {"blockmig/base/README.md": None},
         {"tests/sim/a.cc": SPDX}, {"tools/README.md": None}],
        [{"tools/cmake/Layers.cmake": HASH}, {"tests/unit/base/a.cc": SPDX}]),
    "readme_names_classes": (
        [{"blockmig/base/README.md": "# base\n"},
         {"bitmap/map.h": SPDX + "template <typename T>\nclass Map final : public A<T> {\n};\n"},
         {"bitmap/README.md": "`Mapping`", "bitmap/map.h": SPDX + "class Map {\n};\n"}],
        [{"bitmap/map.h": SPDX + "enum class Kind { kA };\nclass Fwd;\nstruct Values {\n};\n"},
         {"bitmap/map.cc": SPDX + "class Hidden {\n};\n"}]),
    "spdx": (
        [{"bitmap/map.h": "#pragma once\n"}, {"tests/unit/x.py": "import os\n"},
         {"tools/run": "#!/bin/sh\nexit\n"}, {"tests/unit/CMakeLists.txt": "add_test(a)\n"}],
        [{"tools/run": "#!/bin/sh\n" + HASH}, {"tools/notes": "no code\n"}]),
    "await_position": (
        [coroutine(b) for b in (
            "if (co_await x) y();", "while (!co_await x) {}", "co_return co_await x;",
            "auto a = b ? co_await x : c;", "auto a = co_await x ? b : c;", "f(co_await x);",
            "auto a = A{co_await x};", "auto a = A{.b = co_await x, .c = 1};", "f({co_await x});",
            "if (auto r = co_await x; r) {}", "auto a = *co_await x;", "auto a = (co_await x).y;",
            "auto a = co_await x && y;", "return co_await x;", "BM_TRY(co_await x);",
            "for (auto a = co_await x;;) {}", "co_await f(Req{1, std::move(p)});",
            "auto r = co_await f(a, {1, 2});", "auto r = 1 + co_await x;", "Foo foo{co_await x};",
            "auto l = [&]() -> Task<int> { co_return co_await x; };", "switch (co_await x) {}")],
        [coroutine(b) for b in (
            "const auto r = co_await x;", "co_await f(a, std::move(b));", "(void)co_await x;",
            "if (a) co_await x;", "if (a) { co_await x; } else co_await y;", "r = co_await f(g(1));",
            "do co_await x; while (a);", "case 1: co_await x;", "const auto& [a, b] = co_await x;",
            "const auto r = co_await offload(p, [&] { return A{1}; });", "f(\"co_await\");",
            "const auto r = co_await g([&](int i) -> Task<int> { co_return i; });",
            "// if (co_await x)", "co_await x<int, 2>::y(a);")]),
    "third_party_headers": (
        [{"bitmap/map.h": SPDX + "#include <roaring/roaring.hh>\n"},
         {"bitmap/map.h": SPDX + '#include "bitmap/inner.h"\n',
          "bitmap/inner.h": SPDX + "#include <liburing.h>\n"},
         {"blockmig/base/thing.h": SPDX + "#include <rocksdb/db.h>\n"}],
        [{"bitmap/inner.h": SPDX + "#include <roaring/roaring.hh>\n",
          "bitmap/map.cc": SPDX + '#include "bitmap/inner.h"\n',
          "tests/unit/bitmap/a.cc": SPDX + '#include "bitmap/inner.h"\n'}]),
    "contract_is_tested": (
        [{MODES: "*M1* It is so.\n"}, {MODES: "*M2* It is so.\n", "tests/unit/a.cc": SPDX + "// so (M2)\n"},
         {MODES: "*M1* It is so.\n", "tests/unit/a.cc": SPDX + "// so (M1), and (M2)\n"},
         {MODES: "*M1* It is so.\n", "tests/unit/a.cc": SPDX + "// 1 M1 more\n"}],
        [{MODES: "*M1* It is so.\n\n*M2* And so.\n", "tests/unit/a.cc": SPDX + "// so (I3, M1, M2)\n"}]),
    "traps": (
        [{**TRAP, "tests/unit/base/a.cc": SPDX + "TEST(A, B) {}\n"},
         {**TRAP, "tests/sim/README.md": "| 1 | `B` | `gone` |\n"},
         {**TRAP, "tests/sim/README.md": "| 1 | `B` | |\n"},
         {**TRAP, "tests/sim/README.md": "| 2 | `B` | `bug-a` |\n"}],
        [TRAP, {**TRAP, "tests/sim/README.md": "| 1 | `B` | not planted: no reason |\n"}]),
    "banned_text": (
        [{"bitmap/map.h": SPDX + "// see /wo" + "rk/main\n"}, {"tools/README.md": "/ho" + "me/me\n"},
         {"bitmap/map.h": SPDX + "// TO" + "DO\n"}, {"tools/README.md": "FIX" + "ME: x\n"},
         {"tools/README.md": "see http" + "s://registry.invalid/x\n"}],
        [{"tools/README.md": "frame/wo" + "rk/ and build/ho" + "me/x, htt" + "p://localhost:80/v1\n"}]),
}
