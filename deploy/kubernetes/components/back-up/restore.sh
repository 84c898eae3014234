#!/bin/sh
# Puts the backup $BACKUP of $BACKUPS, a folder that back-up.sh has made, in the place of the database and the blobs
# that are there, as docs/how-to/back-up.md tells: `sh restore.sh`. It needs programs of Postgres and GNU tar. PGHOST,
# PGUSER and PGDATABASE say which database, PASSWORD_FILE has its password, and BLOBS is the folder of the blobs.
# What breaks off is begun anew by running it again.
set -eu

FROM=$BACKUPS/$BACKUP
case $BACKUP in
    *.complete) ;;
    *) echo "BACKUP=$BACKUP: not the name of a complete backup" >&2; exit 1 ;;
esac
pg_restore --list "$FROM/database.dump" > /dev/null
PGPASSWORD=$(cat "$PASSWORD_FILE")
export PGPASSWORD
# refused, and with it all the rest, while anybody is connected
dropdb --if-exists --maintenance-db=postgres "$PGDATABASE"
createdb --maintenance-db=postgres "$PGDATABASE"
# files first: what a row names is there before the row. The root of a volume need not be ours to change
find "$BLOBS" -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -r {} +
for file in sources blobs; do
    tar --extract --same-permissions --no-same-owner --no-overwrite-dir --file="$FROM/$file.tar" --directory="$BLOBS"
done
pg_restore --no-owner --no-comments --exit-on-error --single-transaction --dbname="$PGDATABASE" "$FROM/database.dump"
