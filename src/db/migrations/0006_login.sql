-- SPDX-License-Identifier: GPL-3.0-or-later
-- What logins and the L7R's counters need.

-- Counters --------------------------------------------------------------------------------------

-- The number of the last counts that this instance has told, so that none is added twice.
ALTER TABLE l7r_instances ADD COLUMN counted bigint;
