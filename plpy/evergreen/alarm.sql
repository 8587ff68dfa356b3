-- lease(): how many seconds a claim is good for
SELECT pg_catalog.date_part('epoch', embed.lease_end() - pg_catalog.clock_timestamp())
