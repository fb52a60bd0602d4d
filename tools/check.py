#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the tests and closes with one line: N passed, N failed.

Every case of every runner is counted once. A skip is a failure unless tests/skips.txt gives its
reason; a part without a single case is a failure; the status follows the line.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import e2e
import lint
from tally import TOP, Tally, environment, run, say

BENCH_LIMIT = 20 * 60
FUZZ_SECONDS = 60
# With the sanitizers in all programs, the agents in VMs too: what strangers can reach, whole, and
# where each program does most of its work. Not test_processes and test_idle, which judge the build
# that is installed: the sanitizers' has other rights and costs more. No limit in seconds is another.
ASAN_E2E = [f'tests/e2e/test_{name}' for name in (
    'api.py', 'authd.py', 'client.py', 'client_again.py', 'client_conf.py', 'deploy.py',
    'golden_wire.py', 'hkd.py', 'hkd_lxc.py', 'hostile_agent.py', 'hostile_image.py',
    'image_refused.py', 'l7r_balancer.py', 'l7r_http.py', 'l7r_limits.py', 'l7r_tls.py', 'qa.py',
    'start_faults.py', 'vm_network.py', 'vm_rows.py', 'vma.py', 'vma_farm.py', 'vma_hooks.py',
    'vma_adopt.py::test_replays_and_floods_are_bounded[minimal]')]


def compile_tree(tally, what, folder, options, env=None):
    """Sets up and compiles; counts as one case of that name. True if it went well."""
    path = os.path.join(TOP, 'build', folder)
    env = env or environment()
    if not os.path.exists(os.path.join(path, 'build.ninja')):
        shutil.rmtree(path, ignore_errors=True)
        status, out = run(['meson', 'setup', path, *options], env)
        if status != 0:
            tally.fail(what, out)
            return False
    status, out = run(['ninja', '-C', path], env, timeout=1800)
    errors = [line for line in out.splitlines() if not line.startswith('[')]
    tally.case(what, '\n'.join(errors[-80:]) or out if status != 0 else None)
    return status == 0


def read_meson_log(tally, folder, label):
    """Counts the cases of the last `meson test`: TAP lines apart, other programs as one."""
    tree = ElementTree.parse(os.path.join(TOP, 'build', folder, 'meson-logs',
                                          'testlog.junit.xml'))
    for suite in tree.getroot().iter('testsuite'):
        name = label + suite.get('name').replace('qvd.qvd:', '').replace(' / ', '/')
        output = '\n'.join((suite.findtext(tag) or '') for tag in ('system-out', 'system-err'))
        before = len(tally.failed)
        for case in suite.iter('testcase'):
            if case.find('failure') is not None or case.find('error') is not None:
                tally.fail(f'{name}: {case.get("name")}', output)
            elif case.find('skipped') is not None:
                tally.skip(f'{name}: {case.get("name")}', 'skipped by the test')
            else:
                tally.ok()
        broken = int(suite.get('failures', 0)) + int(suite.get('errors', 0))
        if broken and len(tally.failed) == before:
            tally.fail(name, output)


def read_meson_results(folder):
    """Names of tests that did not end well, whatever their cases say (crashes, time limits)."""
    bad = {}
    with open(os.path.join(TOP, 'build', folder, 'meson-logs', 'testlog.json'),
              encoding='utf-8') as f:
        for line in f:
            entry = json.loads(line)
            if entry['result'] not in ('OK', 'EXPECTEDFAIL', 'SKIP'):
                bad[entry['name']] = f'{entry["result"]}\n{entry.get("stdout", "")}' \
                                     f'\n{entry.get("stderr", "")}'
    return bad


def meson_tests(tally, folder, suites, label='', wrap=(), env=None):
    path = os.path.join(TOP, 'build', folder)
    for name in ('testlog.json', 'testlog.junit.xml'):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(path, 'meson-logs', name))
    command = ['meson', 'test', '-C', path, '--no-rebuild', '--num-processes', '2', *wrap]
    for suite in suites:
        command += ['--suite', suite]
    status, out = run(command, env, timeout=1200)
    if not os.path.exists(os.path.join(path, 'meson-logs', 'testlog.junit.xml')):
        tally.fail(f'{label}meson test', out)
        return
    before = len(tally.failed)
    read_meson_log(tally, folder, label)
    told = '\n'.join(tally.failed[before:])
    for name, text in read_meson_results(folder).items():
        if name.split(' / ')[-1] not in told:
            tally.fail(label + name, text)
    if status != 0 and len(tally.failed) == before:
        tally.fail(f'{label}meson test', out)


def part_lint(tally):
    for name, error in lint.checks():
        tally.case(f'lint: {name}', error)
    if compile_tree(tally, 'lint: warnings of gcc', 'lint-gcc', ['-Dwerror=true',
                                                                 '--buildtype=debugoptimized']):
        for name, error in lint.hardening(os.path.join(TOP, 'build', 'lint-gcc')):
            tally.case(f'lint: {name}', error)
    compile_tree(tally, 'lint: warnings of clang', 'lint-clang', ['-Dwerror=true'],
                 environment(CC='ccache clang-14', CC_LD='bfd'))


def main_tree(tally):
    """The ordinary build, once a run; False if it failed."""
    if not hasattr(main_tree, 'good'):
        main_tree.good = compile_tree(tally, 'build', 'check', ['--buildtype=debugoptimized'])
    return main_tree.good


def part_unit(tally):
    if main_tree(tally):
        meson_tests(tally, 'check', ['unit'])


def part_replay(tally):
    if main_tree(tally):
        meson_tests(tally, 'check', ['fuzz-replay'])


def install_tree(tally, folder='check', label=''):
    """The folder that the tree is installed in; None if that failed."""
    if folder == 'check' and not main_tree(tally):
        return None
    destdir = os.path.join(TOP, 'build', folder, 'destdir')
    shutil.rmtree(destdir, ignore_errors=True)
    status, out = run(['meson', 'install', '-C', os.path.join(TOP, 'build', folder),
                       '--no-rebuild', '--quiet', '--destdir', destdir])
    tally.case(f'{label}install', out if status != 0 else None)
    return destdir if status == 0 else None


def part_bench(tally, names, short):
    """Each bound is a case; a run that proves nothing (its baseline was slow) is one that failed."""
    destdir = install_tree(tally)
    if not destdir:
        return
    report = os.path.join(TOP, 'build', 'bench.json')
    with contextlib.suppress(FileNotFoundError):
        os.unlink(report)
    command = ['/usr/bin/python3', 'tests/bench/bench.py', '--json', report,
               *(['--short'] if short else []), *names]
    with e2e.farms_folder('qvd-bench-') as farms:
        process = subprocess.Popen(command, cwd=TOP, stdin=subprocess.DEVNULL,
                                   start_new_session=True,
                                   env=environment(QVD_TREE=destdir, QVD_TEST_DIR=farms,
                                                   PYTHONUNBUFFERED='1'))
        try:
            status = process.wait(BENCH_LIMIT)
        except subprocess.TimeoutExpired:
            status = f'the limit of {BENCH_LIMIT} s'
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status != 0:
        tally.fail('bench: run', f'ended with {status}')
    if os.path.exists(report):
        with open(report, encoding='utf-8') as f:
            data = json.load(f)
        for row in data['rows']:
            if row['holds'] is not None:
                tally.case(f'bench: {row["part"]}: {row["what"]}', None if row['holds'] else
                           f'{row["ours"]}, {row["peer"]}, {row["judged"]}; {row["bound"]}')
        for text in data['void']:
            tally.fail('bench: void', text)
        say('the tables for docs/performance.md: tests/bench/bench.py --page build/bench.json')


def part_e2e(tally, only=None):
    destdir = install_tree(tally)
    if destdir:
        e2e.run_tests(tally, {'QVD_TREE': destdir}, only)


def part_asan(tally):
    env = environment(ASAN_OPTIONS='detect_leaks=1:abort_on_error=1',
                      UBSAN_OPTIONS='halt_on_error=1:print_stacktrace=1')
    if not compile_tree(tally, 'asan: build', 'asan', ['-Db_sanitize=address,undefined',
                                                       '-Db_lundef=false', '--buildtype=debug',
                                                       # A fault ends the program: its test sees it.
                                                       '-Dc_args=-fno-sanitize-recover=all']):
        return
    meson_tests(tally, 'asan', ['unit', 'fuzz-replay'], 'asan: ', ['-t', '5'], env)
    destdir = install_tree(tally, 'asan', 'asan: ')
    if destdir:
        e2e.run_tests(tally, {'QVD_TREE': destdir}, ASAN_E2E, 'asan: ')


def fuzz_targets():
    folder = os.path.join(TOP, 'tests', 'fuzz')
    return sorted(f[len('fuzz-'):-2] for f in os.listdir(folder)
                  if f.startswith('fuzz-') and f.endswith('.c'))


def part_fuzz(tally, seconds):
    options = ['-Dfuzz=true', '-Db_sanitize=address,undefined', '-Db_lundef=false',
               '--buildtype=debugoptimized', '-Dc_args=-fsanitize=fuzzer-no-link']
    if not compile_tree(tally, 'fuzz: build', 'fuzz', options, environment(CC='ccache clang-14')):
        return
    waiting = fuzz_targets()
    running = []
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            thing = waiting.pop(0)
            new = os.path.join(TOP, 'build', 'fuzz', 'corpus', thing)
            os.makedirs(new, exist_ok=True)
            log = os.path.join(TOP, 'build', 'fuzz', f'{thing}.log')
            say(f'fuzz: {thing}, {seconds} s')
            with open(log, 'wb') as out:
                running.append((thing, log, subprocess.Popen(
                    [os.path.join(TOP, 'build', 'fuzz', 'tests', 'fuzz', f'fuzz-{thing}'),
                     f'-max_total_time={seconds}', '-rss_limit_mb=1024', '-timeout=10',
                     '-print_final_stats=1',
                     f'-artifact_prefix={TOP}/build/fuzz/{thing}-', new,
                     os.path.join(TOP, 'tests', 'fuzz', 'corpus', thing)],
                    stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment())))
        thing, log, process = running.pop(0)
        status = process.wait()
        with open(log, encoding='utf-8', errors='replace') as f:
            text = f.read()
        tally.case(f'fuzz: {thing}', text[-6000:] if status != 0 else None)


def main():
    parser = argparse.ArgumentParser(
        prog='./check', description='Runs lint, unit, end-to-end tests and the replay of the '
        'fuzz corpora; or those parts that are named.')
    parser.add_argument('--lint', action='store_true', help='style, words, warnings, hardening')
    parser.add_argument('--unit', action='store_true', help='unit tests (no root needed)')
    parser.add_argument('--e2e', action='store_true', help='end-to-end tests with real parts')
    parser.add_argument('--asan', action='store_true',
                        help='unit tests, corpora and end-to-end tests of all programs under the '
                        'address and undefined sanitizers')
    parser.add_argument('--fuzz', action='store_true',
                        help=f'each fuzz target for {FUZZ_SECONDS} s')
    parser.add_argument('--fuzz-seconds', type=int, default=FUZZ_SECONDS, metavar='N')
    parser.add_argument('--bench', action='store_true',
                        help='speed and memory against peers, on a machine that is otherwise idle')
    parser.add_argument('--short', action='store_true', help='with --bench: fewer runs')
    parser.add_argument('tests', nargs='*', help='with --e2e: what pytest shall run; with --bench: '
                        'relay, desktops')
    args = parser.parse_args()
    chosen = [p for p in ('lint', 'unit', 'e2e', 'asan', 'fuzz', 'bench') if getattr(args, p)]
    parts = {'lint': part_lint, 'unit': part_unit, 'fuzz replay': part_replay,
             'e2e': lambda t: part_e2e(t, args.tests), 'asan': part_asan,
             'fuzz': lambda t: part_fuzz(t, args.fuzz_seconds),
             'bench': lambda t: part_bench(t, args.tests, args.short)}
    os.chdir(TOP)
    os.umask(0o022)
    tally = Tally()
    for name in chosen or ['lint', 'unit', 'fuzz replay', 'e2e']:
        say(f'--- {name}')
        before = tally.count()
        try:
            parts[name](tally)
        except KeyboardInterrupt:
            tally.fail(name, 'interrupted')
            break
        except Exception as error:  # pylint: disable=broad-except
            # A broken runner is a failure like any other, and the line below must come.
            tally.fail(name, f'{type(error).__name__}: {error}')
        if tally.count() == before:
            tally.fail(name, 'not a single case was run')
    for name, reason in tally.skipped:
        print(f'skipped {name}: {reason}')
    for name in tally.failed:
        print(f'failed {name}')
    say('done')
    print(f'{tally.passed} passed, {len(tally.failed)} failed', flush=True)
    return 1 if tally.failed else 0


if __name__ == '__main__':
    sys.exit(main())
