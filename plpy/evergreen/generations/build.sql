-- lock(int4): nobody else begins, promotes or retires a generation of this pipeline now
SELECT FROM embed.pipeline p WHERE p.id = $1 FOR NO KEY UPDATE

-- wait_for_writers(): whoever writes now does it by the old capture function, which does not look at all columns that are
-- watched from now on; the backfill reads the source after those have ended, and whoever comes later has the new one
LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE
