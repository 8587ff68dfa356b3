"""What to do about messages that carry no HINT, by message."""

_ENDPOINT = "Check the URL of the endpoint (`SELECT * FROM embed_endpoints`), and that the server answers. Rows are retried automatically."
_BATCH = "Check that the server's batch API has the format that the endpoint's option `batch_api` says. It is retried automatically."
_SLOW = "Raise `read_timeout` or `total_timeout` of the endpoint, or lower `inputs` of the model. Evergreen also learns a size that fits."
_MODEL = (
    "Check that the model's server is built for embeddings and returns one vector per text. The row is retried alone."
)
_STORE = "Store the secret with the command in `embed_endpoints.remedy`."
_TEXT_TOO_LONG = "Use a chunker, or `SELECT embed_alter('docs', '{\"on_too_long\": \"truncate\"}')`."
_VERIFY = "`SELECT embed_verify('docs', repair => true)` queues rows that are not fresh."
_DEMO = "Run the command again. If it fails again, report it with the output of `evergreen demo --keep`."
_PACKAGE = "The package is incomplete: `pip install --force-reinstall pg-evergreen`."
_RETRIED = "It is retried automatically. `evergreen doctor` says what is wrong and what to type."

CURES: dict[str, str] = {
    # rows that wait or fail
    "reading it took more than … s": "Reading the table is slow, or a lock blocks it. Look at its row security policies and indexes. Workers try again after ten minutes.",
    "model … does not answer": _ENDPOINT,
    "no answer within … s": _SLOW,
    "no connection within … s": _ENDPOINT,
    "… could not be looked up": _ENDPOINT,
    "… could not be looked up within … s": _ENDPOINT,
    "the host in the URL cannot be looked up: it is not a valid name": _ENDPOINT,
    "…:… cannot be reached": _ENDPOINT,
    "no secure connection: …": "Make the server's certificate one that the machine trusts, and the host in the URL one that it names.",
    "the proxy did not let the request through": "Check the option `proxy` of the endpoint, and what the proxy allows.",
    "the connection broke (…)": _ENDPOINT,
    "the answer is compressed, although that was not asked for": "Turn compression off in the server or gateway in front of the model.",
    "the answer is larger than such an answer can be": "Check that the URL is that of an embeddings server.",
    "a line of the answer is longer than such a line can be": _BATCH,
    "answered with a redirect that is not followed": "Check the URL of the endpoint: the content of a file is fetched from where its server says, by https.",
    "the server's list of batches or files has no end": _BATCH,
    "the answer is no JSON object: …": _BATCH,
    "the answer holds no …": _BATCH,
    "the server names no URL of its own for the upload": _BATCH,
    "the output ends within a line": "The download is retried automatically.",
    "a line of the output cannot be read": "Its text is embedded by an ordinary request.",
    "the download was cut": "Nothing: the next worker downloads the rest.",
    "… lines came of a batch with … results": "The download is retried automatically.",
    "refused to talk to …: a link-local, metadata or multicast address": "Use another address: these are never contacted.",
    "refused to send texts unencrypted to …: it is not on this machine": "Use https. On a network that you trust, set the endpoint's option `allow_http`.",
    "a secret cannot have such a name": "Pass the name of a file in the server's secret directory, never the key itself.",
    'secret "…" is neither a file in … nor the variable ……': _STORE,
    'secret "…" cannot be a key: it must be one line of at most … ASCII characters': _STORE,
    'secret "…" cannot be read: ……': "Give the server's user permission to read the file; the message or `embed_endpoints.remedy` has the command.",
    'secret "…" cannot be read: it is not a file': _STORE,
    'secret "…" is refused: others may read or change its file; …': "Type the command at the end of the message.",
    "a text of about … tokens costs more than a whole day's budget (daily_…: …); raise that with embed_alter(), then embed_retry()": "Raise the budget with `embed_alter`, then call `embed_retry`; or use a chunker.",
    "…: its state is held by another session": "Nothing: it is tried again at once. If it stays, end the session that `pg_locks` shows.",
    "model …: … texts gave … vectors": _MODEL,
    "model …: function …(text[]) does not exist": "Create the function again, or drop the model with `embed_model_drop`.",
    "model …: function …(text[]) has another owner than when it was registered; embed_model_drop() it and add it again": "Call `embed_model_drop`, then `embed_model_add`: the new owner then answers for what it runs.",
    "… (as to any text)": "The model refuses every text: check its name, the key and the limits of the account.",
    'a text of … characters (about … tokens) is longer than the model\'s … tokens; use a chunker, or embed_alter(…, \'{"on_too_long": "truncate"}\')': _TEXT_TOO_LONG,
    "the template would make … characters of the … chunks of a text of …: each repeats all that stands around $chunk": "Take long columns out of the template: everything around `$chunk` is repeated for each chunk.",
    "model … gave …": _MODEL,
    "… has … rows with key …; the columns … must differ in each pair of rows": "Change the view, or its tables, so that each pair of rows differs in the columns of `key`; then the rows are retried.",
    # warnings
    "evergreen: reading the WAL: …": "It is retried. If it stays, `evergreen doctor` says what to type.",
    "evergreen: maintenance failed (…): …; noting it: …": _RETRIED,
    "evergreen: maintenance failed (…): …": _RETRIED,
    'evergreen: pipeline "…" is backed off for … s: …': _RETRIED,
    "evergreen could not look at this DDL command: …": "Your command was done. The next worker follows it. " + _VERIFY,
    "evergreen could not look at this DROP command: …": "Your command was done. The next worker follows it.",
    "evergreen could not follow the drop of the source of pipeline …: …": "`SELECT embed_drop('docs')` removes the pipeline.",
    "DROP EXTENSION evergreen leaves behind: …": "Type the HINT to remove what is left; see [Uninstall](../how-to/uninstall.md).",
    # commands
    "the suite … has no source package pgvector": "Install pgvector by hand, then run `evergreen setup` again.",
    "statement … of the demo failed: …": _DEMO,
    "the queue does not drain": _DEMO,
    "the scheduled worker did not embed the row": _DEMO,
    "no .sql files in …": _PACKAGE,
    "… is not named evergreen--FROM--TO.sql": _PACKAGE,
    "… has @replacements@, which only the upgrade to … may have": _PACKAGE,
    "… has no line requires": _PACKAGE,
    "… is linked with no libpython": "Install PL/Python for this server: `evergreen setup`.",
    "… reports version …": "Pass the right program: `evergreen install --pg-config PATH`.",
    "canceled by a second signal; other workers take over the unfinished rows": "Nothing: send one signal to let the worker finish its requests.",
}
