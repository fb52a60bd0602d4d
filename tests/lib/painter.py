# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows a picture of random pixels on the present X display until it is ended; runs in a desktop.

usage: painter.py SEED [WIDTH HEIGHT]
"""

import random
import sys

from Xlib import X, display


def rows(seed, width, height):
    source = random.Random(seed)
    return [b''.join(source.randbytes(3) + b'\0' for _ in range(width)) for _ in range(height)]


def main():
    width, height = (int(a) for a in (sys.argv[2:4] or ('256', '256')))
    picture = rows(sys.argv[1], width, height)
    server = display.Display()
    screen = server.screen()
    window = screen.root.create_window(400, 60, width, height, 0, screen.root_depth,
                                       override_redirect=True, background_pixel=screen.black_pixel,
                                       event_mask=X.ExposureMask)
    window.set_wm_name('painter')
    window.map()
    context = window.create_gc()
    while True:
        event = server.next_event()
        if event.type == X.Expose and event.count == 0:
            # In strips: a request is limited to 256 KiB.
            for top in range(0, height, 64):
                strip = picture[top:top + 64]
                window.put_image(context, 0, top, width, len(strip), X.ZPixmap, screen.root_depth,
                                 0, b''.join(strip))
            server.flush()


if __name__ == '__main__':
    main()
