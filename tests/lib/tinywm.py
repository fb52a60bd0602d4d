# SPDX-License-Identifier: GPL-3.0-or-later
"""The least window manager: every window is mapped and sized as it asks. nxagent keeps to the geometry
that the client wishes only where one runs. usage: tinywm.py DISPLAY; prints a line when it manages."""

import sys

from Xlib import X, display


def main():
    d = display.Display(sys.argv[1])
    root = d.screen().root
    root.change_attributes(event_mask=X.SubstructureRedirectMask | X.SubstructureNotifyMask)
    d.sync()
    print('manages', flush=True)
    while True:
        event = d.next_event()
        if event.type == X.MapRequest:
            event.window.map()
        elif event.type == X.ConfigureRequest:
            wish = {name: getattr(event, name) for name, bit in (
                ('x', X.CWX), ('y', X.CWY), ('width', X.CWWidth), ('height', X.CWHeight))
                if event.value_mask & bit}
            event.window.configure(**wish)
        d.flush()


main()
