-- SPDX-License-Identifier: GPL-3.0-or-later
-- Times at which a VM is told to restart, restarted, or stopped because its user stays away.

ALTER TABLE osfs ADD stop_after_disconnect integer
    CONSTRAINT osfs_stop_after_disconnect_check
    CHECK (stop_after_disconnect BETWEEN -1 AND 5256000);
COMMENT ON COLUMN osfs.stop_after_disconnect IS
    'minutes; 0 at once, -1 never, null: vm.stop_after_disconnect';

-- Expirations are of a run: none before it, none after it.
ALTER TABLE vm_runtimes DROP CONSTRAINT vm_runtimes_expiration_check;
ALTER TABLE vm_runtimes ADD CONSTRAINT vm_runtimes_expiration_check
    CHECK (vm_state NOT IN ('stopped', 'starting_1', 'starting_2')
           OR (vm_expiration_soft IS NULL AND vm_expiration_hard IS NULL));
ALTER TABLE vm_runtimes ADD CONSTRAINT vm_runtimes_expiration_finite_check
    CHECK (isfinite(vm_expiration_soft) IS NOT FALSE AND isfinite(vm_expiration_hard) IS NOT FALSE);

-- Set by people, seldom, and waited for to the second: notified here, whoever changes them.
CREATE FUNCTION notify_expiration() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('h' || NEW.host_id, 'vm ' || NEW.vm_id);
    RETURN NULL;
END $$;
CREATE TRIGGER notify_expiration AFTER UPDATE OF vm_expiration_soft, vm_expiration_hard
    ON vm_runtimes FOR EACH ROW
    WHEN (NEW.vm_state = 'running'
          AND (NEW.vm_expiration_soft IS DISTINCT FROM OLD.vm_expiration_soft
               OR NEW.vm_expiration_hard IS DISTINCT FROM OLD.vm_expiration_hard))
    EXECUTE FUNCTION notify_expiration();

-- Those of its VMs that wait for somebody may have to wait longer, or no longer.
CREATE FUNCTION notify_stop_after_disconnect() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('h' || r.host_id, 'vm ' || r.vm_id)
       FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id
      WHERE v.osf_id = NEW.id AND r.vm_state = 'running' AND r.user_state = 'disconnected';
    RETURN NULL;
END $$;
CREATE TRIGGER notify_stop_after_disconnect AFTER UPDATE OF stop_after_disconnect ON osfs
    FOR EACH ROW WHEN (NEW.stop_after_disconnect IS DISTINCT FROM OLD.stop_after_disconnect)
    EXECUTE FUNCTION notify_stop_after_disconnect();
