#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures QVD against its peers; see docs/performance.md.

usage: bench.py [--short] [--json FILE] [relay] [desktops]     its status tells whether all was run
       bench.py --page FILE      puts the tables of that JSON into docs/performance.md
"""

import argparse
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import peers  # noqa: E402  pylint: disable=wrong-import-position
import relay  # noqa: E402  pylint: disable=wrong-import-position
import desktops  # noqa: E402  pylint: disable=wrong-import-position
from results import Results, TOP, write_page  # noqa: E402  pylint: disable=wrong-import-position

PARTS = {'relay': relay.run, 'desktops': desktops.run}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--short', action='store_true', help='3 runs, less of everything')
    parser.add_argument('--json', default=os.path.join(TOP, 'build', 'bench.json'))
    parser.add_argument('--page', metavar='FILE')
    parser.add_argument('parts', nargs='*', choices=[[], *PARTS])
    args = parser.parse_args()
    if args.page:
        write_page(args.page)
        return 0
    os.environ.setdefault('QVD_BENCH_LOAD', os.path.join(
        TOP, 'build', 'check', 'tests', 'bench', 'bench-load'))
    if not args.parts or 'desktops' in args.parts:
        desktops.prepare()
    peers.own_network()
    peers.all_fds()
    results = Results(3 if args.short else 7)
    for name in args.parts or PARTS:
        print(f'{name}:', flush=True)
        PARTS[name](results, args.short)
        results.save(args.json)
    for text in results.void:
        print(f'VOID: {text}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
