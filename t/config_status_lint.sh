#!/bin/sh
# Each parameter that the table calls "in_force" is read somewhere, and each that is read is called so.
#
#     t/config_status_lint.sh          prints the rows that disagree; exit status 1 when there are any
#
# A parameter counts as read when the sources outside lib/config call its getter, or name it in quotes.
cd "$(dirname "$0")/.." || exit 2
table=lib/config/parameters.tsv
sources=$(find lib master smtpd cleanup qmgr smtp local auth proxymap tlspolicy verify pop3d imapd tools \( -name '*.cc' -o -name '*.h' \) \
    2>/dev/null | grep -v '^lib/config/')
used=$(mktemp) && trap 'rm -f "$used"' EXIT
{
    # shellcheck disable=SC2086
    grep -ohE '(\.|->|::)_?[a-zA-Z0-9_]+\(\)' $sources | sed -E 's/^(\.|->|::)_?([0-9])/\2/; s/^(\.|->|::)//; s/\(\)$//'
    # shellcheck disable=SC2086
    grep -ohE 'Parameter::_?[a-zA-Z0-9_]+' $sources | sed -E 's/^Parameter::_?([0-9])/\1/; s/^Parameter:://'
    # shellcheck disable=SC2086
    grep -ohE '"[a-zA-Z0-9_]+"' $sources | tr -d '"'
    # &Config::getter, for tables of getters
    # shellcheck disable=SC2086
    grep -ohE 'Config::[a-zA-Z0-9_]+' $sources | sed 's/^Config:://'
    # What computed values and defaults in lib/config read.
    printf '%s\n' config_directory log_format mydomain mail_version process_id process_name service_name mynetworks_style \
        compatibility_level stress mail_release_date maillog_file_prefixes
    # Transports' settings are looked up by names put together (qmgr).
    awk -F'\t' '/^(local|lmtp|smtp|virtual|relay)_(destination|initial|recipient|transport|delivery_slot|extra|minimum)_/ { print $1 }' $table
    # A default that refers to another parameter reads that one; syslog_name's is a courtesy.
    awk -F'\t' '!/^#/ && $7 == "in_force" && $1 !~ /^(proxy_(read|write)_maps|syslog_name)$/ { while (match($2, /\$[{(]?[a-z_0-9]+/)) {
        name = substr($2, RSTART, RLENGTH); gsub(/[${(]/, "", name); print name; $2 = substr($2, RSTART + RLENGTH) } }' $table
} | sort -u > "$used"
awk -F'\t' -v used="$used" '
    BEGIN { while ((getline name < used) > 0) is_used[name] }
    /^#/ || NF != 9 { next }
    $7 == "in_force" && !($1 in is_used) { print $1 ": in_force, but nothing reads it"; bad = 1 }
    $7 == "known" && ($1 in is_used) { print $1 ": known, but something reads it"; bad = 1 }
    END { exit bad }' $table
