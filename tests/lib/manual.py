# SPDX-License-Identifier: GPL-3.0-or-later
"""Blocks of commands in the manuals of docs/.

A fenced block of language `sh` is run; a `text` block right after it is what it must print, where
`...` stands for anything. A comment in the line before a block changes that:

    <!-- on node2 -->           run there instead of on the first machine
    <!-- not run: REASON -->    counted and listed, not run
"""

import re


class Block:
    def __init__(self, page, line, text, machine, reason):
        self.page, self.line, self.text = page, line, text
        self.machine, self.reason = machine, reason
        self.expected = None

    def __str__(self):
        return f'{self.page}:{self.line}'


def read_blocks(path, page):
    """All `sh` blocks of a page in their order."""
    with open(path, encoding='utf-8') as f:
        lines = f.read().splitlines()
    blocks, language, begin, previous, between = [], None, 0, None, True
    for number, line in enumerate(lines, 1):
        if language is None and line.startswith('```'):
            language, begin = line[3:].strip(), number
            comment = re.fullmatch(r'<!-- (on|not run:) (.*) -->', lines[number - 2].strip())
        elif language is not None and line.startswith('```'):
            text = '\n'.join(lines[begin:number - 1])
            if language == 'sh':
                on = comment.group(2) if comment and comment.group(1) == 'on' else 'node1'
                reason = comment.group(2) if comment and comment.group(1) != 'on' else None
                previous = Block(page, begin + 1, text, on, reason)
                blocks.append(previous)
            elif language == 'text' and previous and not between:
                previous.expected = text
            else:
                assert language, f'{page}:{begin}: a fenced block without a language'
            language, between = None, False
        elif language is None and line.strip() and not line.startswith('<!--'):
            between = True
    return blocks


def matches(expected, output):
    """Whether the output is as told; blanks at the ends of lines and their number do not count."""
    def simple(text):
        return '\n'.join(' '.join(line.split()) for line in text.strip().splitlines())
    pattern = '.*'.join(re.escape(part) for part in simple(expected).split('...'))
    return re.fullmatch(pattern, simple(output), re.S) is not None
