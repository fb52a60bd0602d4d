#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fails when a room of src/ includes a room that it may not use (docs/architecture.md), or leaves a
_cleanup_ variable without a value.

usage: rooms.py TOP [STAMP]
"""
import os
import re
import sys

# room -> the rooms it may include (itself always)
ALLOWED = {
    "base": "", "conf": "base", "ev": "base", "stream": "base ev", "http": "base ev stream",
    "ipc": "base ev", "model": "base", "wire": "base", "db": "base ev conf",
    "store": "base ev conf db model", "auth": "base conf ev model ipc",
    "node": "base conf ev model", "hkd": "base conf ev ipc wire model db store node",
    "guard": "base ev", "rpc": "base conf ev stream http ipc wire",
    "authd": "base conf ev model db store auth ipc",
    "l7r": "base conf ev stream http ipc wire model db store",
    "api": "base conf ev stream http ipc wire model db store",
    "vma": "base conf ev stream http ipc wire", "qa": "base conf ev stream http wire",
    "client": "base conf ev stream http wire", "deploy": "base ev conf model db store auth",
    "unpack": "base",
}
# What is below a part of a program is narrower than what the program may use.
NARROWER = {
    "l7r/worker": "base conf ev stream http ipc wire",
    "l7r/broker": "base conf ev ipc wire model db store",
    "l7r/master": "base conf ev ipc",
}
# header of a library -> the only rooms that may include it
LIBRARIES = {
    "libpq-fe.h": "db store deploy", "event2/": "ev stream http ipc", "openssl/ssl.h": "stream", "nettle/": "wire",
    "archive.h": "unpack", "crypt.h": "auth", "seccomp.h": "base unpack",
    "libsmartcols": "qa", "lxc/": "",
}


def check(top):
    wrong = []
    src = os.path.join(top, "src")
    for folder, _, names in os.walk(src):
        for name in sorted(names):
            if not name.endswith((".c", ".h")):
                continue
            path = os.path.relpath(os.path.join(folder, name), src)
            room = path.split(os.sep)[0]
            if room not in ALLOWED:
                wrong.append(f"src/{path}: {room} is not a room (tools/rooms.py lists them)")
                continue
            part = os.path.dirname(path)
            may = set(NARROWER.get(part, ALLOWED[room]).split()) | {room}
            with open(os.path.join(src, path), encoding="utf-8") as f:
                text = f.read()
            for n, line in enumerate(text.splitlines(), 1):
                if re.match(r"\s*_cleanup_\(\w+\)[^=]*;", line):
                    wrong.append(f"src/{path}:{n}: a _cleanup_ variable without a value: an early"
                                 " return would free garbage")
                m = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
                if not m:
                    continue
                target = m[2].split("/")[0]
                if m[1] == '"' and target in ALLOWED and target not in may:
                    wrong.append(f"src/{path}:{n}: {part} may not include {m[2]}")
                if m[1] == '"' and target in ALLOWED and target != room and "-internal" in m[2]:
                    wrong.append(f"src/{path}:{n}: {m[2]} is internal to {target}")
                if m[1] == "<":
                    for header, rooms in LIBRARIES.items():
                        if m[2].startswith(header) and room not in rooms.split():
                            wrong.append(f"src/{path}:{n}: only {rooms or 'nobody'} may include <{m[2]}>")
    return wrong


def main():
    wrong = check(sys.argv[1])
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong and len(sys.argv) > 2:
        with open(sys.argv[2], "w", encoding="utf-8") as f:
            f.write("ok\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
