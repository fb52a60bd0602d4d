# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands inside a desktop for the tests; runs in the VM, on its display.

usage: deskhand.py screen              prints WIDTHxHEIGHTxDEPTH
       deskhand.py read SELECTION      prints the text of PRIMARY or CLIPBOARD
       deskhand.py own SELECTION TEXT  owns it, and stays also when another has it
       deskhand.py raise NAME          the top-level window of that name is put on top
       deskhand.py where NAME          prints where the middle of that window is, if it is there
       deskhand.py focus               prints the name of the window that has the keys
       deskhand.py draw SEED           pictures without end; once ~/enough is there, that of SEED
"""

import os
import random
import select
import sys
import time

from Xlib import X, Xatom, display
from Xlib.protocol import event as xevent


def make_window(server):
    root = server.screen().root
    return root.create_window(0, 0, 1, 1, 0, X.CopyFromParent, event_mask=X.PropertyChangeMask)


def show_screen(server):
    screen = server.screen()
    size = screen.root.get_geometry()
    print(f'{size.width}x{size.height}x{screen.root_depth}')


def show_focus(server):
    window = server.get_input_focus().focus
    print(window.get_wm_name() or '' if hasattr(window, 'get_wm_name') else '')


def all_below(window):
    for child in window.query_tree().children:
        yield child
        yield from all_below(child)


def show_place(server, name):
    root = server.screen().root
    for window in all_below(root):
        if window.get_wm_name() == name and window.get_attributes().map_state == X.IsViewable:
            size, at = window.get_geometry(), root.translate_coords(window, 0, 0)
            print(at.x + size.width // 2, at.y + size.height // 2)
            return


def put_on_top(server, name):
    for window in server.screen().root.query_tree().children:
        if window.get_wm_name() == name:
            window.configure(stack_mode=X.Above)
    server.sync()


def read(server, name):
    window = make_window(server)
    target, place = server.intern_atom('UTF8_STRING'), server.intern_atom('TESTED')
    window.convert_selection(server.intern_atom(name), target, place, X.CurrentTime)
    server.flush()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        while server.pending_events():
            event = server.next_event()
            if event.type == X.SelectionNotify:
                value = event.property and window.get_full_property(place, X.AnyPropertyType)
                data = value.value if value else b''
                sys.stdout.write(data if isinstance(data, str) else bytes(data).decode())
                return
        select.select([server], [], [], 0.1)


def own(server, name, text):
    window = make_window(server)
    selection, utf8 = server.intern_atom(name), server.intern_atom('UTF8_STRING')
    targets = server.intern_atom('TARGETS')
    window.set_selection_owner(selection, X.CurrentTime)
    server.flush()
    while True:
        event = server.next_event()
        if event.type != X.SelectionRequest:
            continue
        place = event.property or event.target
        if event.target == targets:
            event.requestor.change_property(place, Xatom.ATOM, 32, [targets, utf8, Xatom.STRING])
        elif event.target in (utf8, Xatom.STRING):
            event.requestor.change_property(place, event.target, 8, text.encode())
        else:
            place = X.NONE
        event.requestor.send_event(xevent.SelectionNotify(
            time=event.time, requestor=event.requestor, selection=event.selection,
            target=event.target, property=place))
        server.flush()


def draw(server, seed):
    from painter import rows  # pylint: disable=import-outside-toplevel
    screen = server.screen()
    window = screen.root.create_window(400, 60, 256, 256, 0, screen.root_depth,
                                       override_redirect=True, background_pixel=0,
                                       event_mask=X.ExposureMask)
    window.map()
    context = window.create_gc()

    def put(picture):
        for top in range(0, 256, 64):
            window.put_image(context, 0, top, 256, 64, X.ZPixmap, screen.root_depth, 0,
                             b''.join(picture[top:top + 64]))
        server.sync()
    noise = random.Random(seed)
    enough = os.path.expanduser('~/enough')
    while not os.path.exists(enough):
        put(rows(noise.random(), 256, 256))
    final = rows(seed, 256, 256)
    put(final)
    while True:
        if server.next_event().type == X.Expose:
            put(final)


def main():
    server = display.Display()
    verbs = {'screen': show_screen, 'focus': show_focus, 'raise': put_on_top,
             'where': show_place, 'read': read, 'own': own, 'draw': draw}
    verbs[sys.argv[1]](server, *sys.argv[2:])


if __name__ == '__main__':
    main()
