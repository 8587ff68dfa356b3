-- check_interval(text): raises when it is no interval; false when it is negative
SELECT $1::pg_catalog.interval >= '0'
