# Turns parameters.tsv into rows for C++:
#   POSTERN_PARAMETER("name", getter, kind, "default", min, max, 'unit', status, "section", "description")
# sorted by name, so that the table can be searched by halving.
function quoted(text) {
    gsub(/[\\"]/, "\\\\&", text)
    return "\"" text "\""
}
BEGIN {
    FS = "\t"
    kind["bool"] = "boolean"; kind["int"] = "number"; kind["time"] = "duration"
    kind["str"] = "text"; kind["raw"] = "raw"; kind["read-only"] = "read_only"
    status["in_force"]; status["known"]; status["retired"]
    sorter = "LC_ALL=C sort"
}
function bad(why) {
    print FILENAME ":" FNR ": " why > "/dev/stderr"
    failed = 1
    exit 1
}
/^#/ || /^$/ { next }
NF != 9             { bad("a row needs 9 columns, this one has " NF) }
!($3 in kind)       { bad("unknown type " $3) }
!($7 in status)     { bad("unknown status " $7) }
$1 in seen          { bad($1 " has a second row") }
$1 !~ /^[a-zA-Z0-9_]+$/ { bad("bad name " $1) }
$4 !~ /^[0-9]+$/ || $5 !~ /^[0-9]+$/ { bad("min and max are numbers") }
$3 == "time" && $6 !~ /^[smhdw]$/ { bad("a time needs a unit") }
$9 == ""            { bad("a description is missing") }
{
    seen[$1]
    getter = $1
    if (getter ~ /^[0-9]/) {
        getter = "_" getter
    }
    printf "POSTERN_PARAMETER(%s, %s, %s, %s, %s, %s, '%s', %s, %s, %s)\n", quoted($1), getter, kind[$3], \
        quoted($2), $4, $5, $6, $7, quoted($8), quoted($9) | sorter
}
END {
    close(sorter)
    exit failed
}
