-- The only doors from a caller's rights to the extension's. They take no argument and do only what the library left for
-- them in this backend's memory, which no SQL can write; called by hand they refuse. lock_timeout: nothing of ours may
-- queue behind (and so in front of) a user's lock. The other settings: keys are written and read in one form, and SQL means
-- what it means with PostgreSQL's defaults, whatever the database or the role sets.
CREATE FUNCTION @extschema@.embed_elevate() RETURNS void
LANGUAGE plpython3u VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '200ms'
SET "DateStyle" = 'ISO, YMD'
SET "IntervalStyle" = 'postgres'
SET "TimeZone" = 'UTC'
SET extra_float_digits = '1'
SET bytea_output = 'hex'
SET lc_monetary = 'C'
SET standard_conforming_strings = on
SET quote_all_identifiers = off
SET array_nulls = on
SET transform_null_equals = off
SET xmloption = content
AS $python$
@boot@
from evergreen.db import privileges
privileges.run()
$python$;
COMMENT ON FUNCTION @extschema@.embed_elevate() IS 'internal: runs one step of evergreen''s own code with its rights';

CREATE FUNCTION @extschema@.embed_elevate_stable() RETURNS void
LANGUAGE plpython3u STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET "DateStyle" = 'ISO, YMD'
SET "IntervalStyle" = 'postgres'
SET "TimeZone" = 'UTC'
SET extra_float_digits = '1'
SET bytea_output = 'hex'
SET lc_monetary = 'C'
SET standard_conforming_strings = on
SET quote_all_identifiers = off
SET array_nulls = on
SET transform_null_equals = off
SET xmloption = content
AS $python$
@boot@
from evergreen.db import privileges
privileges.run()
$python$;
COMMENT ON FUNCTION @extschema@.embed_elevate_stable() IS
    'internal: as embed_elevate, read-only and in the snapshot of the calling query';
