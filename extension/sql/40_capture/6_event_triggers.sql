CREATE EVENT TRIGGER evergreen_warn_of_leftovers ON ddl_command_start
    WHEN TAG IN ('DROP EXTENSION')
    EXECUTE FUNCTION embed.warn_of_leftovers();
COMMENT ON EVENT TRIGGER evergreen_warn_of_leftovers IS 'evergreen: reports what DROP EXTENSION leaves behind';
ALTER EVENT TRIGGER evergreen_warn_of_leftovers ENABLE ALWAYS;

CREATE EVENT TRIGGER evergreen_drop_slot_with_extension ON ddl_command_start
    WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED')
    EXECUTE FUNCTION embed.drop_slot_with_extension();
COMMENT ON EVENT TRIGGER evergreen_drop_slot_with_extension IS 'evergreen: drops the replication slot with the extension';
ALTER EVENT TRIGGER evergreen_drop_slot_with_extension ENABLE ALWAYS;
CREATE EVENT TRIGGER evergreen_follow_rewrite ON table_rewrite
    EXECUTE FUNCTION embed.follow_rewrite();
COMMENT ON EVENT TRIGGER evergreen_follow_rewrite IS 'evergreen: detects values changed by ALTER TABLE';
ALTER EVENT TRIGGER evergreen_follow_rewrite ENABLE ALWAYS;
CREATE EVENT TRIGGER evergreen_follow_ddl ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE TABLE AS', 'CREATE VIEW', 'ALTER VIEW', 'ALTER MATERIALIZED VIEW',
                 'REFRESH MATERIALIZED VIEW', 'ALTER INDEX', 'ALTER SCHEMA', 'ALTER TYPE', 'ALTER DOMAIN',
                 'ALTER EXTENSION')
    EXECUTE FUNCTION embed.follow_ddl();
COMMENT ON EVENT TRIGGER evergreen_follow_ddl IS 'evergreen: keeps capture working when a source is altered';
CREATE EVENT TRIGGER evergreen_follow_drop ON sql_drop
    EXECUTE FUNCTION embed.follow_drop();
COMMENT ON EVENT TRIGGER evergreen_follow_drop IS 'evergreen: detects that a source is dropped';
ALTER EVENT TRIGGER evergreen_follow_ddl ENABLE ALWAYS;
ALTER EVENT TRIGGER evergreen_follow_drop ENABLE ALWAYS;

CREATE EVENT TRIGGER evergreen_follow_subscription ON ddl_command_end
    WHEN TAG IN ('CREATE SUBSCRIPTION', 'ALTER SUBSCRIPTION')
    EXECUTE FUNCTION embed.follow_subscription();
COMMENT ON EVENT TRIGGER evergreen_follow_subscription IS 'evergreen: keeps another server''s rows out of its tables';
ALTER EVENT TRIGGER evergreen_follow_subscription ENABLE ALWAYS;
