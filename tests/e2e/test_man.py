# SPDX-License-Identifier: GPL-3.0-or-later
"""Manual pages: one for each program and settings file, with each option and each setting."""

import os
import re
import subprocess

import pytest

from farm import TOP, installed_tree

SECTION = {'usr/bin/qa': 1, 'usr/bin/qvdclient': 1}  # all others: 8
FILE_BITS = {'N': 'node.conf', 'V': 'vma.conf', 'C': 'client.conf', 'Q': 'qa.conf'}


@pytest.fixture(scope='module', name='tree')
def tree_fixture():
    return installed_tree()


def programs(tree):
    found = []
    for folder in ('usr/bin', 'usr/lib/qvd'):
        for name in sorted(os.listdir(os.path.join(tree, folder))):
            path = os.path.join(tree, folder, name)
            if os.path.isfile(path) and os.access(path, os.X_OK) and '.so' not in name:
                found.append(os.path.join(folder, name))
    return found


def page(tree, name, section):
    """The page's text without marks; an alias is followed."""
    folder = os.path.join(tree, 'usr/share/man')
    with open(os.path.join(folder, f'man{section}', f'{name}.{section}'), encoding='utf-8') as f:
        text = f.read()
    alias = re.fullmatch(r'\.so (man\d/\S+)\n', text)
    if alias:
        with open(os.path.join(folder, alias[1]), encoding='utf-8') as f:
            text = f.read()
    text = re.sub(r'\\f[BIRP]', '', text).replace('\\-', '-').replace('\\&', '')
    return text.replace("\\(aq", "'").replace('\\e', '\\').replace('\\.', '.').replace('\\~', '~')


def help_text(tree, program):
    done = subprocess.run([os.path.join(tree, program), '--help'], text=True, timeout=20,
                          check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT,
                          env={**os.environ,
                               'LD_LIBRARY_PATH': os.path.join(tree, 'usr/lib/x86_64-linux-gnu')})
    return done.stdout


def test_each_program_has_its_page_with_each_option(tree):
    missing, seen = [], 0
    for program in programs(tree):
        name, section = os.path.basename(program), SECTION.get(program, 8)
        text = page(tree, name, section)
        options = set(re.findall(r'(?<![\w-])--?[a-z][a-z-]*', help_text(tree, program)))
        seen += len(options)
        missing += [(name, o) for o in options if not re.search(
            rf'(?<![\w-]){re.escape(o)}(?![\w-])', text)]
    assert missing == []
    assert len(programs(tree)) >= 14 and seen > 60


def test_pages_are_good_roff(tree):
    for folder, _, names in os.walk(os.path.join(tree, 'usr/share/man')):
        for name in names:
            done = subprocess.run(['man', '--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z', name],
                                  cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                  text=True, check=False,
                                  env={**os.environ, 'LC_ALL': 'C.UTF-8', 'MANWIDTH': '80'})
            if not name.endswith(('-worker.8', '-broker.8', '-listener.8')):
                assert (done.returncode, done.stderr) == (0, ''), name


def test_each_setting_is_in_its_page(tree):
    with open(os.path.join(TOP, 'src/conf/settings.def'), encoding='utf-8') as f:
        rows = re.findall(r'^K\("([^"]+)", (\w+), (?:NULL|"(?:[^"\\]|\\.)*"), .*?, '
                          r'(?:LIVE|RELOAD|RESTART), ([NVCQ|0]+), "((?:[^"\\]|\\.)*)"\)$', f.read(),
                          re.M)
    with open(os.path.join(TOP, 'src/conf/settings.def'), encoding='utf-8') as f:
        assert len(rows) == sum(line.startswith('K(') for line in f)
    pages = {name: re.sub(r'\s+', ' ', page(tree, name, 5)) for name in FILE_BITS.values()}
    everywhere = ' '.join(pages.values())
    missing = []
    for key, type_, files, text in rows:
        wanted = [FILE_BITS[bit] for bit in files.split('|') if bit in FILE_BITS]
        plain = re.sub(r'\s+', ' ', text.replace('\\"', '"').replace('\\\\', '\\'))
        for name in wanted:
            if key not in pages[name] or plain not in pages[name]:
                missing.append((name, key))
        if not wanted and key not in everywhere and not key.startswith('internal.'):
            missing.append(('any page', key, type_))
    assert missing == []


def test_each_verb_is_in_qas_page(tree):
    text = page(tree, 'qa', 1)
    with open(os.path.join(TOP, 'src/qa/verbs.c'), encoding='utf-8') as f:
        verbs = re.findall(r'^    \{"(\w+)",\s*"([\w ]+)",', f.read(), re.M)
    assert len(verbs) > 15
    assert [v for v in verbs if f'qa {v[1].replace(" ", "|")} {v[0]} ' not in text] == []
