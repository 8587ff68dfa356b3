#!/bin/bash
# An entry point for the tests' base image. It does what the official image documents of its own: POSTGRES_USER, _PASSWORD,
# _PASSWORD_FILE, _DB, _INITDB_ARGS, _HOST_AUTH_METHOD, PGDATA, init scripts, --user, the owner of the data directory.
set -euo pipefail

as_any_user() {  # initdb looks its user up, and a number has no entry
    getent passwd "$(id -u)" > /dev/null && return
    export NSS_WRAPPER_PASSWD=/tmp/passwd NSS_WRAPPER_GROUP=/tmp/group LD_PRELOAD=libnss_wrapper.so
    echo "postgres:x:$(id -u):$(id -g):PostgreSQL:$PGDATA:/bin/false" > "$NSS_WRAPPER_PASSWD"
    echo "postgres:x:$(id -g):" > "$NSS_WRAPPER_GROUP"
}

make_cluster() {
    if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
        echo "error: POSTGRES_PASSWORD is not set" >&2
        exit 1
    fi
    eval 'initdb --username="$POSTGRES_USER" --pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD")' "${POSTGRES_INITDB_ARGS:-}"
    echo "host all all all ${POSTGRES_HOST_AUTH_METHOD:-$(postgres -C password_encryption)}" >> "$PGDATA/pg_hba.conf"
}

run_init_script() {
    echo "$0: running $1"
    case $1 in
        *.sh) if [ -x "$1" ]; then "$1"; else . "$1"; fi ;;
        *.sql) psql --file="$1" ;;
        *.sql.gz) gunzip --stdout "$1" | psql ;;
    esac
}

prepare() (  # with a temporary server that listens on its socket only
    PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -o "$(printf '%q ' "$@" -c listen_addresses= -p "${PGPORT:-5432}")" -w start
    export PGPASSWORD=$POSTGRES_PASSWORD PGHOST="" PGHOSTADDR="" PGUSER=$POSTGRES_USER PGDATABASE=postgres
    psql() { command psql -v ON_ERROR_STOP=1 --no-psqlrc "$@"; }
    [ "$POSTGRES_DB" = postgres ] || psql --set=db="$POSTGRES_DB" <<< 'CREATE DATABASE :"db"'
    PGDATABASE=$POSTGRES_DB
    for script in /docker-entrypoint-initdb.d/*; do
        [ ! -e "$script" ] || run_init_script "$script"
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
)

[ "${1:0:1}" != - ] || set -- postgres "$@"
[ "$1" = postgres ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chmod 0700 "$PGDATA"
    find "$PGDATA" /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$BASH_SOURCE" "$@"
fi
[ -z "${POSTGRES_PASSWORD_FILE:-}" ] || POSTGRES_PASSWORD=$(< "$POSTGRES_PASSWORD_FILE")
: "${POSTGRES_PASSWORD:=}" "${POSTGRES_USER:=postgres}" "${POSTGRES_DB:=$POSTGRES_USER}"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    chmod 0700 "$PGDATA" || :
    as_any_user
    make_cluster
    prepare "${@:2}"
    unset LD_PRELOAD NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP PGPASSWORD
fi
exec "$@"
