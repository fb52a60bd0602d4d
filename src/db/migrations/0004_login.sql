-- SPDX-License-Identifier: GPL-3.0-or-later
-- What logins and the L7R's counters need.

-- Counters --------------------------------------------------------------------------------------

-- The number of the last counts that this instance has told, so that none is added twice.
ALTER TABLE l7r_instances ADD COLUMN counted bigint;

-- Hashes of passwords ---------------------------------------------------------------------------

-- PostgreSQL writes the whole row into its log when it breaks a rule of its table. Rows with a hash
-- are therefore judged by the same rules before that, by a trigger, whose error names the rule only.
CREATE FUNCTION refuse_without_telling() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    rule record;
    kept boolean;
BEGIN
    FOR rule IN SELECT attname FROM pg_attribute
                 WHERE attrelid = TG_RELID AND attnum > 0 AND attnotnull AND NOT attisdropped LOOP
        IF to_jsonb(NEW) -> rule.attname::text = 'null' THEN
            RAISE not_null_violation USING TABLE = TG_TABLE_NAME, COLUMN = rule.attname,
                MESSAGE = format('%I of %I may not be null', rule.attname, TG_TABLE_NAME);
        END IF;
    END LOOP;
    FOR rule IN SELECT conname, pg_get_expr(conbin, conrelid) AS test FROM pg_constraint
                 WHERE conrelid = TG_RELID AND contype = 'c' ORDER BY conname LOOP
        EXECUTE format('SELECT %s FROM (SELECT ($1).*) AS %I', rule.test, TG_TABLE_NAME)
           INTO kept USING NEW;
        IF NOT kept THEN
            RAISE check_violation USING TABLE = TG_TABLE_NAME, CONSTRAINT = rule.conname,
                MESSAGE = format('a new row of %I breaks %I', TG_TABLE_NAME, rule.conname);
        END IF;
    END LOOP;
    RETURN NEW;
END $$;
-- The last of the BEFORE triggers, by its name.
CREATE TRIGGER zz_refuse_without_telling BEFORE INSERT OR UPDATE ON users
    FOR EACH ROW EXECUTE FUNCTION refuse_without_telling();
CREATE TRIGGER zz_refuse_without_telling BEFORE INSERT OR UPDATE ON administrators
    FOR EACH ROW EXECUTE FUNCTION refuse_without_telling();

-- Settings that are secrets ---------------------------------------------------------------------

-- Plugins keep the passwords of their directories there: qvd-authd reads those, nobody else. The
-- administration may set and remove what it cannot read.
CREATE FUNCTION config_is_secret(key text) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN key ~* '(pass|secret|salt)';
CREATE VIEW config_values WITH (security_barrier) AS
    SELECT tenant_id, key,
           CASE WHEN config_is_secret(key) AND NOT pg_has_role(current_user, 'qvd_auth', 'USAGE')
                THEN '***' ELSE value END AS value
      FROM configs;
COMMENT ON VIEW config_values IS 'configs, secrets as *** for all but qvd_auth';
REVOKE SELECT ON configs FROM qvd_hkd, qvd_l7r, qvd_api;
GRANT SELECT (tenant_id, key) ON configs TO qvd_api;
GRANT SELECT ON config_values TO qvd_hkd, qvd_l7r, qvd_auth, qvd_api;
