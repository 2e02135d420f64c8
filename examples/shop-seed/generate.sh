#!/bin/sh
# Writes golden.sql (PostgreSQL) and golden.sqlite.sql: the shop's migrations, its data, and the record that the
# migrations have run. Run it after a change to either; a test fails while they differ.
set -eu
cd "$(dirname "$0")"

for engine in postgres sqlite; do
    if [ "$engine" = postgres ]; then out=golden.sql; else out=golden.sqlite.sql; fi
    {
        echo "-- Written by generate.sh. The golden data of the demo's shop, for $engine."
        for file in ../shop-repo/migrations/*.sql; do
            case $file in
                *.$engine.sql) ;;
                *.postgres.sql | *.sqlite.sql) continue ;;
            esac
            cat "$file"
            echo
        done
        cat data.sql
        echo
        echo "CREATE TABLE shop_migrations (name TEXT PRIMARY KEY, applied_at BIGINT NOT NULL);"
        for file in ../shop-repo/migrations/*.sql; do
            case $file in
                *.sqlite.sql) continue ;;
            esac
            name=$(basename "$file" .sql)
            echo "INSERT INTO shop_migrations (name, applied_at) VALUES ('${name%.postgres}', 1795305600000);"
        done
        echo
        if [ "$engine" = postgres ]; then
            for table in customers products orders; do
                echo "SELECT setval(pg_get_serial_sequence('$table', 'id'), (SELECT MAX(id) FROM $table));"
            done
            echo
        fi
    } > "$out"
done
