# SPDX-License-Identifier: GPL-3.0-or-later
"""Every statement that stands whole in src/store: PostgreSQL takes it, and the role that says it may.

What is put together at run time (the lists of the API) has tests of its own.
"""

import os
import re

import pytest

from farm import TOP

ROLES = {  # file: the role whose program calls it
    'config.c': 'qvd_hkd', 'store.c': 'qvd_auth', 'vm.c': 'qvd_hkd', 'host.c': 'qvd_hkd',
    'session.c': 'qvd_l7r', 'session-claim.c': 'qvd_l7r', 'nodes.c': 'qvd_l7r', 'l7r.c': 'qvd_l7r',
    'auth.c': 'qvd_auth',
}
LITERAL = r'"(?:[^"\\]|\\.)*"'


def role_of(name):
    return ROLES.get(name, 'qvd_api' if name.startswith('admin') else 'qvd_l7r'
                     if name.startswith(('session', 'l7r')) else 'qvd_hkd')


def statements(path):
    """The SQL among the C literals, adjacent ones joined, macros of the file put in."""
    with open(path, encoding='utf-8') as f:
        text = re.sub(r'/\*.*?\*/', '', f.read(), flags=re.S)
    text = text.replace('\\\n', ' ')
    macros = dict(re.findall(rf'^#define (\w+)\s+((?:{LITERAL}\s*)+)$', text, re.M))
    for match in re.finditer(rf'{LITERAL}(?:\s*(?:{LITERAL}|[A-Z][A-Z0-9_]+\b))*', text):
        parts = re.findall(rf'{LITERAL}|[A-Z][A-Z0-9_]+', match[0])
        parts = [macros.get(p, p) if not p.startswith('"') else p for p in parts]
        if not all(p.startswith('"') for p in parts):
            continue
        sql = ''.join(x[1:-1] for p in parts for x in re.findall(LITERAL, p))
        sql = sql.replace('\\"', '"').replace('\\n', '\n').replace('\\\\', '\\')
        # Not: a piece that is completed elsewhere, or by a format.
        if re.match(r'(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH) ', sql) and not re.search(
                r'%[sdlu]', sql) and len(sql) > 20 and sql.count('(') == sql.count(')') and not sql.endswith((' ', ',')):
            yield text[:match.start()].count('\n') + 1, sql


def all_statements():
    folder = os.path.join(TOP, 'src/store')
    return [pytest.param(name, sql, id=f'{name}-{n}') for name in sorted(os.listdir(folder))
            if name.endswith('.c')
            for n, (_, sql) in enumerate(statements(os.path.join(folder, name)))]


@pytest.mark.parametrize('name, sql', all_statements())
def test_statement(database, name, sql):
    """EXPLAIN checks the rights of the role without running the statement."""
    n = max([int(x) for x in re.findall(r'\$(\d+)', sql)], default=0)
    nulls = f'({", ".join(["NULL"] * n)})' if n else ''
    database.psql(f'PREPARE p AS {sql};\nEXPLAIN EXECUTE p{nulls}', role_of(name))


def test_there_are_some():
    assert len(all_statements()) >= 20
