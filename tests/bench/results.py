# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures, their bounds, and the tables of docs/performance.md made of them."""

import json
import os
import platform
import re
import statistics
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = os.path.join(TOP, 'docs', 'performance.md')
BEGIN, END = '<!-- begin: written by tests/bench/bench.py -->', '<!-- end -->'


class Results:
    """Rows (what, ours, peer, ratio or difference, bound, holds) of one run."""

    def __init__(self, runs):
        self.runs = runs
        self.rows = []
        self.void = []

    def add(self, part, what, ours, peer='', judged='', bound='', holds=None):
        """holds: None where no bound is set."""
        row = {'part': part, 'what': what, 'ours': ours, 'peer': peer, 'judged': judged,
               'bound': bound, 'holds': holds}
        self.rows.append(row)
        mark = {None: '', True: 'holds', False: 'DOES NOT HOLD'}[holds]
        print(f'  {what}: {ours}' + (f' | {peer}' if peer else '')
              + (f' | {judged}' if judged else '') + (f' | {bound}: {mark}' if bound else ''),
              flush=True)

    def ratio(self, part, what, ours, theirs, *, least=None, most=None, show, peer='haproxy'):
        """Medians of both, and of the ratio run by run."""
        ratio = statistics.median(a / b for a, b in zip(ours, theirs))
        bound = f'at least {least:g}' if least else f'at most {most:g}' if most else ''
        holds = None if not bound else ratio >= least if least else ratio <= most
        self.add(part, what, show(statistics.median(ours)),
                 f'{peer} {show(statistics.median(theirs))}', f'{ratio:.2f} times', bound, holds)

    def save(self, path):
        with open(path, 'w', encoding='utf-8') as f:
            json.dump({'machine': machine(), 'versions': versions(), 'runs': self.runs,
                       'rows': self.rows, 'void': self.void}, f, indent=1)


def machine():
    text = subprocess.run(['lscpu'], stdout=subprocess.PIPE, text=True, check=True,
                          env={**os.environ, 'LC_ALL': 'C'}).stdout
    model = re.search(r'^(?:BIOS )?Model name:\s*(.*)$', text, re.M)
    with open('/proc/meminfo', encoding='ascii') as f:
        memory = int(f.readline().split()[1]) / (1 << 20)
    return (f'{os.cpu_count()} CPUs ({model.group(1).strip() if model else "unknown"}), '
            f'{memory:.1f} GiB, Linux {platform.release()}, load at the end '
            f'{os.getloadavg()[1]:.1f} (5 minutes)')


def versions():
    names = ['libssl3', 'haproxy', 'hitch', 'lxc', 'nxagent', 'nxproxy', 'postgresql-15']
    out = subprocess.run(['dpkg-query', '-W', '-f', '${Package} ${Version}, ', *names],
                         stdout=subprocess.PIPE, text=True, check=False).stdout
    commit = subprocess.run(['git', '-C', TOP, 'describe', '--always', '--dirty'],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                            check=False).stdout.strip()
    return out.rstrip(', ') + (f'; QVD at {commit}' if commit else '')


def table(data):
    """The generated part of the page."""
    lines = [f'Machine: {data["machine"]}.', '', f'Versions: {data["versions"]}.', '',
             f'Medians of {data["runs"]} interleaved runs.', '']
    part = None
    for row in data['rows']:
        if row['part'] != part:
            part = row['part']
            lines += ['', f'### {part}', '', '| what | QVD | beside it | judged | bound | |',
                      '|---|---|---|---|---|---|']
        mark = {None: '', True: 'holds', False: '**does not hold**'}[row['holds']]
        lines.append(f'| {row["what"]} | {row["ours"]} | {row["peer"]} | {row["judged"]} '
                     f'| {row["bound"]} | {mark} |')
    if data['void']:
        lines += ['', 'Void in this run: ' + '; '.join(data['void']) + '.']
    return re.sub(r'\n{3,}', '\n\n', '\n'.join(lines)).strip() + '\n'


def write_page(path):
    """Puts the tables of that JSON into docs/performance.md."""
    with open(path, encoding='utf-8') as f:
        data = json.load(f)
    with open(PAGE, encoding='utf-8') as f:
        text = f.read()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    with open(PAGE, 'w', encoding='utf-8') as f:
        f.write(f'{head}{BEGIN}\n{table(data)}{END}{tail}')
