# SPDX-License-Identifier: GPL-3.0-or-later
"""src/db against a real PostgreSQL: the cases of tests/unit/db/test-db-*.c, one test a case."""

import os
import re
import subprocess

import pytest

from farm import TOP, installed_tree
from pg import Cluster

PROGRAMS = ('live', 'faults', 'prepared')


def cases(program):
    path = os.path.join(TOP, f'tests/unit/db/test-db-{program}.c')
    with open(path, encoding='utf-8') as f:
        return [(program, name) for name in re.findall(r'\bLIVE\((\w+)\)', f.read())]


@pytest.fixture(scope='module', name='results')
def results_fixture(cluster):
    """Output of the programs by case, run once."""
    folder = os.path.join(os.path.dirname(installed_tree()), 'tests/unit/db')
    cluster.psql('CREATE DATABASE db_live')
    told = {}
    for program in PROGRAMS:
        done = subprocess.run([os.path.join(folder, f'test-db-{program}')], text=True, timeout=120,
                              env={**os.environ, 'QVD_TEST_DB_HOST': cluster.host,
                                   'QVD_TEST_DB_NAME': 'db_live', 'CMOCKA_MESSAGE_OUTPUT': 'TAP'},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        told[program] = done.stdout
    cluster.psql('DROP DATABASE db_live WITH (FORCE)')
    return told


@pytest.mark.parametrize('program, case', [c for p in PROGRAMS for c in cases(p)])
def test_case(results, program, case):
    if not re.search(rf'^ok \d+ - {case}$', results[program], re.M):
        pytest.fail(results[program])


def test_each_case_is_known():
    assert len(cases('live')) >= 10 and len(cases('faults')) >= 8 and len(cases('prepared')) >= 11


def test_server_killed():
    """kill -9 of the server, twice, while 40 writes are always on their way: each is answered, none
    that was acknowledged is lost, the connections come back by themselves."""
    cluster = Cluster(fsync=True)
    program = os.path.join(os.path.dirname(installed_tree()), 'tests/unit/db/db-outage')
    lines = []

    def read_until(p, word, count):
        while sum(line[0] == word for line in lines) < count:
            line = p.stdout.readline()
            assert line, lines[-5:]
            lines.append(line.split(' ', 2))

    try:
        cluster.psql('CREATE TABLE numbers (n bigint PRIMARY KEY)')
        with subprocess.Popen([program, cluster.host, 'postgres'], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as p:
            for round_ in (1, 2):
                read_until(p, 'ok', len(lines) + 200)
                cluster.kill()
                read_until(p, 'down', round_)
                cluster.start()
                read_until(p, 'up', round_)
            read_until(p, 'ok', len(lines) + 200)
            p.stdin.close()
            lines += [line.split(' ', 2) for line in p.stdout.read().splitlines()]
            assert p.wait(30) == 0
        answers = [(word, int(n)) for word, n, *_ in lines if word not in ('up', 'down')]
        numbers = [n for _, n in answers]
        assert sorted(numbers) == list(range(max(numbers) + 1)), 'one answer each'
        assert {word for word, _ in answers} <= {'ok', 'gone'}, answers
        kept = {int(r[0]) for r in cluster.psql('SELECT n FROM numbers')}
        assert {n for word, n in answers if word == 'ok'} <= kept
    finally:
        cluster.remove()
