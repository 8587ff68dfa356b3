-- lock(int4): nobody else begins, promotes or retires a generation of this pipeline now. Not the pipeline's own row: it may
-- be paused and altered meanwhile
SELECT FROM embed.generation g WHERE g.pipeline = $1 ORDER BY g.id FOR NO KEY UPDATE

-- wait_for_writers(): whoever writes now does it by the old capture function, which does not look at all columns that are
-- watched from now on; the backfill reads the source after those have ended, and whoever comes later has the new one
LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE
