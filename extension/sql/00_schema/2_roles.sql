-- Cluster-wide roles. They outlive the extension: other databases may rely on them.
DO $do$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT * FROM (VALUES
        ('embed_admin', 'evergreen: endpoints, models, and every pipeline'),
        ('embed_worker', 'evergreen: may drain, work, schedule and claim (which shows the texts of every pipeline)'),
        ('embed_user', 'evergreen: may call embed() on models that cost money, and give them to pipelines')) v(name, purpose)
    LOOP
        IF pg_catalog.to_regrole(r.name) IS NULL THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', r.name);
            EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', r.name, r.purpose);
        END IF;
    END LOOP;
    GRANT embed_worker, embed_user TO embed_admin;
END
$do$;
