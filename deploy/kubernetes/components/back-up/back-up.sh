#!/bin/sh
# Backs up the database and the blobs of a running service into a new folder of $BACKUPS, as docs/how-to/back-up.md
# tells: `sh back-up.sh`. It needs psql, pg_dump and GNU tar. PGHOST, PGUSER and PGDATABASE say which database,
# PASSWORD_FILE has its password, and BLOBS is the folder of the blobs. After a success the oldest go, until KEEP are left.
set -eu
umask 077

# an archive: what changes while it is read, as a folder does to which a file comes, is no fault
pack() {
    tar --create "$@" || test $? -eq 1
}

if [ "${1-}" = copy ]; then
    cd "$BLOBS"
    find . -mindepth 2 -maxdepth 2 -name sources -type d -print0 > "$FOLDER/sources.list"
    pack --file="$FOLDER/sources.tar" --null --files-from="$FOLDER/sources.list"
    rm "$FOLDER/sources.list"
    pg_dump --format=custom --file="$FOLDER/database.dump"
    pack --file="$FOLDER/blobs.tar" --anchored --no-wildcards-match-slash --exclude=./.drafts --exclude='./*/copies' .
    touch "$FOLDER/copied"
    exit
fi

test "${KEEP:=7}" -ge 1
PGPASSWORD=$(cat "$PASSWORD_FILE")
FOLDER=$BACKUPS/$(date -u +%Y%m%dT%H%M%SZ)
ITSELF=$0
export PGPASSWORD FOLDER ITSELF
mkdir "$FOLDER"
# nothing is removed for as long as this session holds the locks of the duties that remove
psql --no-psqlrc --quiet --output=/dev/null --set ON_ERROR_STOP=1 <<'SQL'
SELECT pg_advisory_lock(19537, duty) FROM unnest(ARRAY[3, 9, 17]) AS duty;
\! sh "$ITSELF" copy
SELECT 1;
SQL
# Only a session that lived to its last line has held the locks all the time; and psql does not tell that a command of
# the shell has failed.
rm "$FOLDER/copied"
mv "$FOLDER" "$FOLDER.complete"
cd "$BACKUPS"
# what broke off is of no use; one of today may be another that is being made
find . -mindepth 1 -maxdepth 1 -name '[0-9]*Z' -type d -mtime +0 -exec rm -r {} +
# the names are times: their order is that of age
set -- [0-9]*Z.complete
while [ $# -gt "$KEEP" ]; do
    # none is called complete that is half removed
    mv "$1" "${1%.complete}"
    rm -r "${1%.complete}"
    shift
done
