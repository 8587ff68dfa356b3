-- state(): advisory locks, prepared statements and cursors of this session
SELECT embed.session_state()

-- restore(text[]): undoes what is not among these
SELECT embed.restore_session($1)
