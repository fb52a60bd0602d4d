# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows of the state tables the end-to-end tests have taken.

The setters of qvd-hkd and qvd-l7r-broker log one line for each row that they take, at level DEBUG,
with the cells of the printed tables (docs/vm-states.md, docs/session-steps.md):

    ... [vm:7] row running | stop | has a VMA | stopping_1
    ... [s:3.12 u:1 vm:7] row auth | done | host
    ... node: row enter | done | node

A test's teardown gives its daemons' logs to collect(); with QVD_TEST_EDGES they are added up there
and tools/check.py asks missing() at the end of the whole run.
"""

import os
import re
import uuid

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROW = re.compile(r'(\[vm:|\[s:|node:)[^|]*? row (\S[^|]*\|.*)$')
TABLES = {'[vm:': 'vm', '[s:': 'session', 'node:': 'node'}
# Name of a table: the page that shows it, the head of its rows there, the cells that a line has.
PAGES = {'vm': ('vm-states.md', '| state | event | if |', (0, 1, 2, 4)),
         'node': ('vm-states.md', '| step | event | what is done |', (0, 1, 3)),
         'session': ('session-steps.md', '| step | limit | event |', (0, 2, 3))}


def rows_of(text):
    """{(table, cells)} of the lines of a log."""
    found = set()
    for line in text.splitlines():
        match = ROW.search(line)
        if match:
            cells = tuple(c.strip() for c in match.group(2).split('|'))
            found.add((TABLES[match.group(1)], cells))
    return found


def collect(*paths):
    """Adds the rows in these logs (files that are missing have none) to the run's."""
    folder = os.environ.get('QVD_TEST_EDGES')
    if not folder:
        return
    found = set()
    for path in paths:
        try:
            with open(path, encoding='utf-8', errors='replace') as f:
                found |= rows_of(f.read())
        except FileNotFoundError:
            pass
    if found:
        with open(os.path.join(folder, uuid.uuid4().hex), 'w', encoding='utf-8') as f:
            f.writelines(f'{table} | {" | ".join(cells)}\n' for table, cells in sorted(found))


def collected(folder):
    seen = set()
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), encoding='utf-8') as f:
            for line in f:
                table, *cells = (c.strip() for c in line.rstrip('\n').split('|'))
                seen.add((table, tuple(cells)))
    return seen


def table_rows(table):
    """The cells of each row, in the order of the page."""
    page, head, wanted = PAGES[table]
    rows, inside = [], False
    with open(os.path.join(TOP, 'docs', page), encoding='utf-8') as f:
        for line in f:
            if line.startswith(head):
                inside = True
            elif inside and line.startswith('|---'):
                continue
            elif inside and line.startswith('|'):
                cells = [c.strip() for c in line.strip()[1:-1].split('|')]
                rows.append(tuple(cells[i] for i in wanted))
            else:
                inside = False
    return rows


def missing(table, seen):
    """Rows of that table which no line told of."""
    return [cells for cells in table_rows(table) if (table, cells) not in seen]


def unknown(table, seen):
    """Lines that no row of the page has: the page or the setter is wrong."""
    rows = set(table_rows(table))
    return sorted(cells for name, cells in seen if name == table and cells not in rows)
