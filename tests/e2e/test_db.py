# SPDX-License-Identifier: GPL-3.0-or-later
"""src/db against a real PostgreSQL: the cases of tests/unit/db/test-db-*.c, one test a case."""

import os
import re
import subprocess

import pytest

from farm import TOP, installed_tree


def cases(program):
    path = os.path.join(TOP, f'tests/unit/db/test-db-{program}.c')
    with open(path, encoding='utf-8') as f:
        return [(program, name) for name in re.findall(r'\bLIVE\((\w+)\)', f.read())]


@pytest.fixture(scope='module', name='results')
def results_fixture(cluster):
    """Output of both programs by case, run once."""
    folder = os.path.join(os.path.dirname(installed_tree()), 'tests/unit/db')
    cluster.psql('CREATE DATABASE db_live')
    told = {}
    for program in ('live', 'faults'):
        done = subprocess.run([os.path.join(folder, f'test-db-{program}')], text=True, timeout=120,
                              env={**os.environ, 'QVD_TEST_DB_HOST': cluster.host,
                                   'QVD_TEST_DB_NAME': 'db_live', 'CMOCKA_MESSAGE_OUTPUT': 'TAP'},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        told[program] = done.stdout
    cluster.psql('DROP DATABASE db_live WITH (FORCE)')
    return told


@pytest.mark.parametrize('program, case', cases('live') + cases('faults'))
def test_case(results, program, case):
    if not re.search(rf'^ok \d+ - {case}$', results[program], re.M):
        pytest.fail(results[program])


def test_each_case_is_known():
    assert len(cases('live')) >= 10 and len(cases('faults')) >= 8
