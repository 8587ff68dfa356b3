-- No SET clause and no SECURITY DEFINER: either would forbid COMMIT. So everything it runs is qualified.
CREATE PROCEDURE @extschema@.embed_work(
    pipeline text = NULL, max_runtime interval = '55 s', until_empty boolean = false, slot int = NULL, until_idle boolean = false)
LANGUAGE plpython3u
AS $python$
@boot@
from evergreen.worker import loop
loop.embed_work(pipeline, max_runtime, until_empty, slot, until_idle)
$python$;
COMMENT ON PROCEDURE @extschema@.embed_work(text, interval, boolean, int, boolean) IS
    'the worker loop: commits between steps and holds no transaction while a model is called; any number side by side. '
    'slot: only one session at a time works in a slot of this number. until_empty: until nothing is left. until_idle: until '
    'there is nothing to do now, whatever has to wait for its time';
