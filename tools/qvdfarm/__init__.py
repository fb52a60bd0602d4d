# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole farm (PostgreSQL, node, L7R, API) on one machine, in namespaces of its own.

The quickstart and the end-to-end tests share it. `supervisor` is the first process of the farm's pid
namespace, `farm` drives it from the host, `build` installs the programs, `quickstart` is the command.
"""
