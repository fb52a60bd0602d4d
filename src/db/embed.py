#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build tool: makes a C table of the migrations.

usage: embed.py OUTPUT FILE.sql...
"""
import hashlib
import os
import re
import sys


def literal(data):
    """bytes -> C string literals, a line each."""
    out = []
    for line in data.splitlines(keepends=True):
        text = line.decode('utf-8')
        for a, b in (('\\', '\\\\'), ('"', '\\"'), ('\n', '\\n'), ('\t', '\\t'), ('?', '\\?')):
            text = text.replace(a, b)
        out.append(f'    "{text}"')
    return '\n'.join(out)


def main():
    out, files = sys.argv[1], sorted(sys.argv[2:], key=os.path.basename)
    rows = []
    number = 0
    for path in files:
        m = re.fullmatch(r'(\d{4})_([a-z0-9_]+)\.sql', os.path.basename(path))
        if not m or int(m[1]) <= number:
            sys.exit(f'{path}: expected NNNN_name.sql, NNNN above {number:04}')
        number = int(m[1])
        with open(path, 'rb') as f:
            data = f.read()
        rows.append(f'{{{number}, "{m[2]}",\n{literal(data)},\n'
                    f'    "{hashlib.sha256(data).hexdigest()}"}},')
    with open(out, 'w', encoding='utf-8') as f:
        f.write('/* Made by embed.py. */\n#include "db/migrations.h"\n\n'
                'static const struct migration table[] = {\n' + '\n'.join(rows) + '\n};\n\n'
                'const struct migration *migrations(size_t *ret_n)\n{\n'
                '    *ret_n = sizeof table / sizeof *table;\n    return table;\n}\n\n'
                'int migrations_last(void)\n{\n'
                '    return table[sizeof table / sizeof *table - 1].version;\n}\n')


if __name__ == '__main__':
    main()
