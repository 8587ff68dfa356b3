-- lock(text, int4): try to have it, for this subtransaction
SELECT true FROM embed.mutex m WHERE m.owner = $1 AND m.number = $2 FOR UPDATE SKIP LOCKED
