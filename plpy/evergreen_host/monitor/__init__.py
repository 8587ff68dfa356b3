"""Commands for operators: status, metrics, doctor, backfill."""
