# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of ./check --lint: each yields (name, error or None)."""

import ast
import json
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LEFT_OUT = {'.git', 'build', '__pycache__', '.pytest_cache'}
# Licensed by COPYING as a whole: bytes that are inputs, and formats without comments.
NO_SPDX = ('COPYING', '.json', '.pem', 'tests/codespell.txt')
BINARY = ('.png', '.zst', '.gz', '.xz', '.tar')
FILE_LINES = 700
SEEDS = 30
ENDBR64 = b'\xf3\x0f\x1e\xfa'


def files():
    for folder, folders, names in os.walk(TOP):
        folders[:] = sorted(f for f in folders if f not in LEFT_OUT)
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), TOP)
            if name != '.git' and not path.startswith(os.path.join('tests', 'fuzz', 'corpus')) \
                    and not os.path.islink(os.path.join(TOP, path)):
                yield path


def read(path):
    with open(os.path.join(TOP, path), encoding='utf-8', errors='replace') as f:
        return f.read()


def run(command):
    """None, or what the failed command said."""
    done = subprocess.run(command, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors='replace', check=False)
    return None if done.returncode == 0 else done.stdout or f'status {done.returncode}'


def in_pieces(command, paths, size=200):
    errors = []
    for start in range(0, len(paths), size):
        error = run([*command, *paths[start:start + size]])
        if error:
            errors.append(error)
    return '\n'.join(errors) or None


def check_format(paths):
    error = in_pieces(['clang-format-14', '--dry-run', '-Werror'], paths)
    if not error:
        return None
    names = sorted(set(re.findall(r'^([^:\n]+):\d+:\d+: error', error, re.M)))
    return 'clang-format-14 -i ' + ' '.join(names) if names else error


def listed(problems):
    return '\n'.join(problems) if problems else None


def interpreter(path):
    if path.endswith(BINARY):
        return ''
    first = read(path).split('\n', 1)[0]
    return first if first.startswith('#!') else ''


def check_spdx(paths):
    return [p for p in paths if not p.endswith(NO_SPDX) and not p.endswith(BINARY)
            and 'SPDX-License-Identifier: GPL-3.0-or-later' not in
            '\n'.join(read(p).splitlines()[:6])]


def check_text(paths):
    found = []
    for path in paths:
        if path.endswith(BINARY) or path == 'COPYING':
            continue
        text = read(path)
        if text and not text.endswith('\n'):
            found.append(f'{path}: no newline at the end')
        for number, line in enumerate(text.split('\n'), 1):
            if line.rstrip(' \t') != line:
                found.append(f'{path}:{number}: space at the end of the line')
            if '\t' in line and path.endswith(('.c', '.h', '.py', '.build')):
                found.append(f'{path}:{number}: a tab')
    return found


def check_python(paths):
    found = []
    for path in paths:
        if path.endswith('.py') or 'python3' in interpreter(path):
            try:
                ast.parse(read(path), path)
            except SyntaxError as error:
                found.append(f'{path}:{error.lineno}: {error.msg}')
    return found


def check_seeds():
    folder = os.path.join(TOP, 'tests', 'fuzz')
    found = []
    for name in sorted(os.listdir(folder)):
        if name.startswith('fuzz-') and name.endswith('.c'):
            thing = name[len('fuzz-'):-2]
            corpus = os.path.join(folder, 'corpus', thing)
            seeds = len(os.listdir(corpus)) if os.path.isdir(corpus) else 0
            if seeds < SEEDS:
                found.append(f'{thing}: {seeds} seeds, {SEEDS} are needed')
    return found


def checks():
    paths = list(files())
    source = [p for p in paths if p.endswith(('.c', '.h'))]
    shell = [p for p in paths if re.search(r'/(ba)?sh\b', interpreter(p))]
    text = [p for p in paths if not p.endswith(BINARY) and p != 'COPYING'
            and not p.endswith('.pem')]
    yield 'rooms', run([sys.executable, 'tools/rooms.py', TOP])
    yield 'clang-format', check_format(source)
    yield 'codespell', in_pieces(['codespell', '-I', 'tests/codespell.txt'], text)
    yield 'shellcheck', in_pieces(['shellcheck', '-x'], shell)
    yield 'python parses', listed(check_python(paths))
    yield 'licences', listed(check_spdx(paths))
    yield 'ends of lines', listed(check_text(paths))
    yield 'length of files', listed([f'{p}: {n} lines, at most {FILE_LINES}' for p, n in
                                     ((p, read(p).count('\n')) for p in source)
                                     if n > FILE_LINES])
    yield 'seeds of fuzz targets', listed(check_seeds())
    if 'docs/architecture.md' in paths:
        lines = read('docs/architecture.md').count('\n')
        yield 'length of docs/architecture.md', None if lines <= 120 else f'{lines} lines'


def programs(folder):
    """The programs and shared libraries that meson would install."""
    out = subprocess.run(['meson', 'introspect', '--targets', folder], stdout=subprocess.PIPE,
                         check=True, text=True).stdout
    for target in json.loads(out):
        if target['installed'] and target['type'] in ('executable', 'shared library'):
            yield from target['filename']


def hardening(folder):
    """Reads the promised protections back from each program and shared library."""
    for path in programs(folder):
        out = subprocess.run(['readelf', '-W', '-h', '-l', '-d', '-n', '-s', path],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                             errors='replace', check=True).stdout
        missing = []
        if not re.search(r'Type:\s+DYN', out):
            missing.append('position independent')
        if 'GNU_RELRO' not in out:
            missing.append('RELRO')
        if 'BIND_NOW' not in out and not re.search(r'FLAGS_1.*\bNOW\b', out):
            missing.append('now')
        if re.search(r'GNU_STACK.*RWE', out):
            missing.append('stack that is not executable')
        if '__stack_chk_fail' not in out:
            missing.append('stack protector')
        if not re.search(r'__\w+_chk\b(?<!__stack_chk)', out):
            missing.append('fortified calls')
        # Debian's start files are not marked for CET, so the linker cannot mark ours; the
        # instructions at the places that may be jumped to are there all the same.
        with open(path, 'rb') as f:
            if f.read().count(ENDBR64) < 10:
                missing.append('CET')
        name = os.path.basename(path)
        yield f'hardening of {name}', f'{name} lacks: {", ".join(missing)}' if missing else None
