-- SPDX-License-Identifier: GPL-3.0-or-later
-- The private key of the routers is for the routers only: qvd-hkd has no use for it.

REVOKE SELECT ON ssl_configs FROM qvd_hkd;
