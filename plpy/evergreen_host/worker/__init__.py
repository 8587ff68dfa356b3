"""`evergreen worker`: sessions that LISTEN, sleep, and CALL embed_work within milliseconds of a commit."""
