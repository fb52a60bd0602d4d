# SPDX-License-Identifier: GPL-3.0-or-later
"""The end-to-end tests: several files at once, each a pytest of its own.

A file has farms of its own, so files do not meet. They wait more than they compute; those that took
longest the last time begin first, so that none of them is left to run alone at the end.
"""

import concurrent.futures
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree

from tally import TOP, environment, say

sys.path.insert(0, os.path.join(TOP, 'tests', 'lib'))

import edges  # noqa: E402  pylint: disable=wrong-import-position
import scratch  # noqa: E402  pylint: disable=wrong-import-position
from qvdfarm.farm import Farm  # noqa: E402  pylint: disable=wrong-import-position

LIMIT = 45 * 60
AT_ONCE = 3
# These measure the machine, so nothing else may run beside them.
ALONE = ('tests/e2e/test_idle.py',)
# So many failed cases get a second run of their files, in CI only.
UNSTEADY_MAX = 4
SECONDS = os.path.join(TOP, 'build', 'cache', 'e2e-seconds.json')
E2E = 'tests/e2e'


@contextlib.contextmanager
def farms_folder(prefix, in_memory=False):
    """Where farms may be made, which the users of VMs can enter; nothing of it stays."""
    folder = tempfile.mkdtemp(prefix=prefix, dir='/tmp')
    os.chmod(folder, 0o755)
    with scratch.in_memory(folder) if in_memory else contextlib.nullcontext():
        try:
            yield folder
        finally:
            # What tests that were cut short left there.
            for name in os.listdir(folder):
                if os.path.exists(os.path.join(folder, name, 'supervisor.json')):
                    Farm(os.path.join(folder, name), None).destroy()
            shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def read_report(path):
    """name -> (what broke it or None, why it was skipped or None, its file), of each case."""
    cases = {}
    for case in ElementTree.parse(path).getroot().iter('testcase'):
        name = f'{case.get("classname")}.{case.get("name")}'
        if case.get('file'):
            name = f'{case.get("file")}::{case.get("name")}'
        broken = case.find('failure') if case.find('failure') is not None else case.find('error')
        skipped = case.find('skipped')
        cases[name] = (None if broken is None else broken.get('message') or 'failed',
                       None if skipped is None else skipped.get('message') or '',
                       case.get('file'))
    return cases


def read_seconds():
    with contextlib.suppress(OSError, ValueError):
        with open(SECONDS, encoding='utf-8') as f:
            return json.load(f)
    return {}


def write_seconds(seconds):
    os.makedirs(os.path.dirname(SECONDS), exist_ok=True)
    with open(SECONDS + '.new', 'w', encoding='utf-8') as f:
        json.dump(seconds, f, indent=0, sort_keys=True)
    os.rename(SECONDS + '.new', SECONDS)


class Run:
    """One run of some files (or cases: FILE::NAME). env: for the tests, beside our own."""

    def __init__(self, selection, env):
        self.env = dict(env)
        self.seconds = read_seconds()
        self.deadline = time.monotonic() + LIMIT
        self.running = set()
        self.ended = False
        self.cases = {}
        self.strange = []       # (file, why): pytests that ended as none should
        # A file that nobody has timed yet may be the longest.
        wanted = sorted(selection, key=lambda f: -self.seconds.get(f, float('inf')))
        self.beside = [f for f in wanted if f not in ALONE]
        self.alone = [f for f in wanted if f in ALONE]

    def _pytest(self, file, folder, farms):
        """Its exit status (None: cut short), after how many seconds."""
        report, log = os.path.join(folder, 'report.xml'), os.path.join(folder, 'output')
        command = ['/usr/bin/python3', '-m', 'pytest', '-p', 'no:cacheprovider', '-q', '-rN',
                   '--tb=short', '--durations=5', '--durations-min=3', '-o',
                   'junit_family=xunit1', f'--junitxml={report}', file]
        began = time.monotonic()
        with open(log, 'wb') as out:
            process = subprocess.Popen(command, cwd=TOP, stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=out, start_new_session=True,
                                       env=environment(QVD_TEST_DIR=farms, **self.env))
        self.running.add(process)
        try:
            status = process.wait(max(0.0, self.deadline - began))
        except subprocess.TimeoutExpired:
            status = None
            self.end(process)
        self.running.discard(process)
        return status, time.monotonic() - began

    @staticmethod
    def end(process):
        for number, patience in ((signal.SIGTERM, 30), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)

    def _file(self, file, farms):
        if self.ended:
            return
        folder = tempfile.mkdtemp(prefix='pytest-', dir=farms)
        status, seconds = self._pytest(file, folder, farms)
        report = os.path.join(folder, 'report.xml')
        cases = read_report(report) if os.path.exists(report) else {}
        broken = [name for name, case in cases.items() if case[0]]
        with open(os.path.join(folder, 'output'), encoding='utf-8', errors='replace') as f:
            output = f.read()
        say(f'{file}: {len(cases) - len(broken)} of {len(cases)}, {seconds:.1f} s')
        if broken or status != 0:
            print(output, flush=True)
        if status is None:
            self.strange.append((file, f'not done within {LIMIT} s of the whole run'))
        elif status not in (0, 1) or not cases:
            self.strange.append((file, f'pytest ended with status {status}'))
        elif '::' not in file:
            self.seconds[file] = round(seconds, 1)
        self.cases.update(cases)

    def go(self):
        with farms_folder('qvd-check-', in_memory=True) as farms, \
                concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            self.env['QVD_TEST_SHARED'] = os.path.join(farms, 'shared')
            os.mkdir(self.env['QVD_TEST_SHARED'], 0o755)
            try:
                for job in [pool.submit(self._file, f, farms) for f in self.beside]:
                    job.result()
                for file in self.alone:
                    self._file(file, farms)
            except BaseException:
                self.ended = True
                for process in list(self.running):
                    self.end(process)
                raise
        write_seconds(self.seconds)
        return self


def all_files():
    return sorted(f'{E2E}/{name}' for name in os.listdir(os.path.join(TOP, E2E))
                  if name.startswith('test_') and name.endswith('.py'))


def run_tests(tally, env, only=(), label=''):
    """Counts the cases of these files (all of them: and the rows of tables that were taken)."""
    with tempfile.TemporaryDirectory(prefix='qvd-edges-', dir='/var/tmp') as edges_dir:
        env = {**env, 'QVD_TEST_EDGES': edges_dir}
        done = Run(only or all_files(), env).go()
        cases, strange = done.cases, done.strange
        broken = [name for name, case in cases.items() if case[0]]
        if os.environ.get('CI') and 0 < len(broken) <= UNSTEADY_MAX and not strange:
            # A gate must not stand or fall with one unlucky moment of a busy machine; at home it
            # does.
            files = sorted({name.split('::')[0] for name in broken})
            say(f'{len(broken)} failed; their files once more: {" ".join(files)}')
            again = Run(files, env).go()
            for name in broken:
                if name in again.cases and not again.cases[name][0]:
                    print(f'UNSTEADY {name}: failed once, then passed: {cases[name][0]}',
                          flush=True)
            cases.update(again.cases)
            strange += again.strange
        for name, (why, skipped, _) in cases.items():
            # pytest has told the rest on its own output.
            if skipped is not None and why is None:
                tally.skip(label + name, skipped)
            else:
                tally.case(label + name, why)
        for file, why in strange:
            tally.fail(label + file, why)
        if not only:
            tell_edges(tally, edges.collected(edges_dir))


def tell_edges(tally, seen):
    """Each row of the tables must have been taken by some test."""
    for table in edges.PAGES:
        rows = edges.table_rows(table)
        missing, strange = edges.missing(table, seen), edges.unknown(table, seen)
        say(f'rows of the table of {table} taken: {len(rows) - len(missing)} of {len(rows)}')
        text = ''.join(f'never taken: {" | ".join(row)}\n' for row in missing)
        text += ''.join(f'not in the page: {" | ".join(row)}\n' for row in strange)
        tally.case(f'edges: {table}', text or None)
