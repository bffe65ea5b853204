-- Keys whose time is over are revoked for good; those that are still active stay so until they expire.
UPDATE keys SET status = 'revoked', revocation_reason = 'REVOCATION_REASON_SUPERSEDED',
    revocation_description = 'rotated: replaced by new key'
    WHERE status = 'active' AND revoke_time < CAST(unixepoch('subsec') * 1000000 AS INTEGER);
UPDATE keys SET expire_time = revoke_time WHERE status = 'active' AND revoke_time IS NOT NULL;
DROP INDEX keys_by_revoke_time;
DROP INDEX keys_replaced;
ALTER TABLE keys DROP COLUMN revoke_time;
ALTER TABLE keys DROP COLUMN replaced_by;
