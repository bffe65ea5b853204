-- Keys whose time is over are revoked for good; those that are still active stay so until they expire.
UPDATE keys SET status = 'revoked', revocation_reason = 'REVOCATION_REASON_SUPERSEDED',
    revocation_description = 'rotated: replaced by new key' WHERE status = 'active' AND revoke_time < now();
UPDATE keys SET expire_time = revoke_time WHERE status = 'active' AND revoke_time IS NOT NULL;
ALTER TABLE changes DROP COLUMN revoke_time;
DROP INDEX keys_by_revoke_time;
DROP INDEX keys_replaced;
ALTER TABLE keys DROP COLUMN revoke_time, DROP COLUMN replaced_by;
