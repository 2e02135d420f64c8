#!/bin/bash
# Stands in for systemd in a machine of the tests: believes only units that systemd itself finds nothing wrong with, and only
# those that it was told to read; keeps them running as they say.
#
#   systemctl daemon-reload | systemctl enable --now <unit>
#   systemctl boot          starts what is enabled, as systemd does by itself
set -euo pipefail
umask 0022
readonly units=/etc/systemd/system read=/run/units

main() {
    case "$*" in
        daemon-reload)
            rm -rf "$read"
            cp -r "$units" "$read"
            ;;
        "enable --now "*)
            local unit=$3 wanted
            [ -f "$read/$unit" ] || fail "Unit $unit not found: was it there at daemon-reload?"
            local found
            found=$(systemd-analyze verify --man=no --recursive-errors=no "$read/$unit" 2>&1) && [ -z "$found" ] ||
                fail "systemd finds wrong: $found"
            wanted=$(value "$read/$unit" WantedBy)
            mkdir -p "$units/$wanted.wants"
            ln -sf "$units/$unit" "$units/$wanted.wants/$unit"
            setsid "$0" keep "$read/$unit" </dev/null &
            ;;
        boot)
            "$0" daemon-reload
            local enabled
            for enabled in "$units"/multi-user.target.wants/kagero*; do
                setsid "$0" keep "$read/$(basename "$enabled")" </dev/null &
            done
            ;;
        "keep "*) keep "$2" ;;
        *) fail "it is not known here: $*" ;;
    esac
}

# Starts the unit's program again and again, as `Restart=always` has it.
keep() {
    local unit=$1 restart before
    restart=$(value "$unit" Restart)
    while :; do
        while read -r before; do
            [ -z "$before" ] || run "$before" || fail "ExecStartPre has failed: $before"
        done <<<"$(value "$unit" ExecStartPre)"
        run "$(value "$unit" ExecStart)" || true
        echo "$(basename "$unit") has ended"
        [ "$restart" = always ] || return 0
        sleep "$(value "$unit" RestartSec)"
    done
}

# A command line as units have it, as far as these go: words and nothing else; with the variables that services have.
run() {
    local words
    case $1 in *[\"\'\$%\\]*) fail "this command line is not understood here: $1" ;; esac
    read -ra words <<<"$1"
    case ${words[0]} in /*) ;; *) fail "not an absolute path: ${words[0]}" ;; esac
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin LANG=C.UTF-8 "${words[@]}" </dev/null
}

value() { sed -n "s/^$2=//p" "$1"; }

fail() {
    echo "systemctl: $1" >&2
    exit 1
}

main "$@"
