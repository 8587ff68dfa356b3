\echo Use "ALTER EXTENSION evergreen UPDATE" to load this file. \quit

@replacements@
