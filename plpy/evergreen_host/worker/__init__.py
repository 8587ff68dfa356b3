"""`evergreen worker`: sessions that LISTEN and CALL embed_work within milliseconds of a commit."""
