# SPDX-License-Identifier: GPL-3.0-or-later
"""What all parts of ./check share: counting cases, telling the time, running commands."""

import contextlib
import os
import signal
import subprocess
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
START = time.monotonic()


def say(text):
    print(f'[{time.monotonic() - START:7.1f} s] {text}', flush=True)


class Tally:
    def __init__(self):
        self.passed = 0
        self.failed = []
        self.skipped = []
        self.reasons = read_skips()

    def ok(self, count=1):
        self.passed += count

    def fail(self, name, text=''):
        self.failed.append(name)
        print(f'FAILED {name}', flush=True)
        if text.strip():
            print('    ' + '\n    '.join(text.rstrip().splitlines()[-120:]), flush=True)

    def skip(self, name, reason):
        allowed = next((r for n, r in self.reasons.items() if name == n or name.endswith(n)), None)
        if allowed:
            self.skipped.append((name, allowed))
        else:
            self.fail(name, f'skipped without a line in tests/skips.txt: {reason}')

    def case(self, name, error):
        if error:
            self.fail(name, error)
        else:
            self.ok()

    def count(self):
        return self.passed + len(self.failed) + len(self.skipped)


def read_skips():
    reasons = {}
    with open(os.path.join(TOP, 'tests', 'skips.txt'), encoding='utf-8') as f:
        for line in f:
            name, _, reason = line.strip().partition(': ')
            if name and not name.startswith('#') and reason:
                reasons[name] = reason
    return reasons


def environment(**more):
    # /usr/bin first: Debian's tools, not those of somebody's own Python.
    env = dict(os.environ, LC_ALL='C.UTF-8', PYTHONDONTWRITEBYTECODE='1',
               PATH='/usr/bin:/bin:/usr/sbin:/sbin:' + os.environ.get('PATH', ''),
               **more)
    env.setdefault('CCACHE_DIR', os.path.join(TOP, 'build', 'cache', 'ccache'))
    return env


def run(command, env=None, timeout=None, cwd=TOP):
    """(status, output); the whole process group ends with a timeout."""
    process = subprocess.Popen(command, cwd=cwd, env=env or environment(),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    try:
        out, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        out += f'\nkilled after {timeout} s'.encode()
        return 124, out.decode(errors='replace')
    return process.returncode, out.decode(errors='replace')
