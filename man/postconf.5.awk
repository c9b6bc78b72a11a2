# Makes postconf(5) from lib/config/parameters.tsv:  awk -f man/postconf.5.awk lib/config/parameters.tsv > postconf.5
BEGIN {
    FS = "\t"
    type["bool"] = "yes or no"; type["int"] = "number"; type["time"] = "time"; type["str"] = "text"
    type["raw"] = "text, expanded when it is used"; type["read-only"] = "read-only"
    title["general"] = "General"; title["log"] = "Logging"; title["master"] = "Service manager"
    title["routing"] = "Addresses and routing"; title["submission"] = "Local submission"; title["smtpd"] = "SMTP server"
    title["cleanup"] = "Message cleanup"; title["qmgr"] = "Queue and scheduling"; title["bounce"] = "Bounces and reports"
    title["local"] = "Local delivery"; title["virtual"] = "Virtual mailboxes"; title["pipe"] = "Delivery to commands"
    title["table"] = "Lookup tables"; title["auth"] = "Authentication"; title["login"] = "Log-in to IMAP and POP3"
    title["store"] = "Mail store"; title["imap"] = "IMAP server"; title["pop3"] = "POP3 server"; title["tls"] = "TLS"
    title["smtp"] = "SMTP and LMTP client"; title["postscreen"] = "Connection screening"; title["tlsproxy"] = "TLS proxy"
    title["milter"] = "Milters"; title["verify"] = "Address probes"; title["flush"] = "Mail by destination"
    title["qmqpd"] = "QMQP server"; title["multi"] = "Several instances"
    head()
}
function head() {
    print ".\\\" Made from lib/config/parameters.tsv by man/postconf.5.awk; do not edit."
    print ".Dd November 22, 2026"
    print ".Dt POSTCONF 5"
    print ".Os"
    print ".Sh NAME"
    print ".Nm postconf"
    print ".Nd parameters of the mail system"
    print ".Sh SYNOPSIS"
    print ".Nm postconf"
    print ".Ar parameter ..."
    print ".Sh DESCRIPTION"
    print "The file"
    print ".Pa main.cf"
    print "in the configuration directory"
    print ".Pq Pa /etc/postern"
    print "sets parameters, one in each line:"
    print ".Pp"
    print ".Dl name = value"
    print ".Pp"
    print "A line that begins with white space continues the line before."
    print "Empty lines, and lines whose first visible character is"
    print ".Ql # ,"
    print "are comments, also between the lines of one value."
    print "Of a parameter that is set twice the last value counts."
    print ".Pp"
    print "A value may refer to others:"
    print ".Bl -tag -width Ds"
    print ".It Li $name , ${name} , $(name)"
    print "The value of"
    print ".Ar name ;"
    print "nothing when there is no such parameter."
    print ".It Li ${name?text} , ${name?{text}}"
    print "The text, when the value is not empty."
    print ".It Li ${name:text} , ${name:{text}}"
    print "The text, when the value is empty."
    print ".It Li ${name?{text}:{text}}"
    print "One text or the other."
    print ".It Li \"${{a} == {b} ? {text} : {text}}\""
    print "Compares with"
    print ".Li == , != , < , <= , >"
    print "or"
    print ".Li >= ;"
    print "as numbers when both sides are numbers."
    print "With"
    print ".Li level"
    print "behind the operator, versions such as 3.6 are compared."
    print ".It Li $$"
    print "A dollar sign."
    print ".El"
    print ".Pp"
    print "Names that are not in this manual may be set and referred to; a name that nothing refers to is reported by"
    print ".Xr postern 1"
    print ".Cm check ."
    print ".Pp"
    print "Tables are written"
    print ".Ar type : Ns Ar name ,"
    print "see"
    print ".Xr lookup_tables 5 ."
    print "A time is a number with one of the letters s, m, h, d and w behind it; without, it is in the unit that is"
    print "given below."
    print "Each delivery transport"
    print ".Ar name"
    print "has parameters"
    print ".Ar name Ns Li _destination_concurrency_limit"
    print "and so on, which take their values from those that begin with"
    print ".Li default_ ."
}
function text(s) {
    gsub(/\\/, "\\e", s)
    gsub(/-/, "\\-", s)
    return s
}
# A description may begin a line with anything but a macro.
function sentence(s) {
    s = text(s)
    gsub(/[.] /, ".\n", s)
    return s ~ /^[.']/ ? "\\&" s : s
}
# A word that is only punctuation would be taken for a delimiter.
function literal(s) {
    gsub(/\\/, "\\e", s)
    gsub(/"/, "\"\"", s)
    return s ~ /^[][().,:;?!|]$/ ? "\"\\&" s "\"" : "\"" s "\""
}
# Short values stay on one line; long ones are broken at their blanks.
function show_default(s,    i, n, words) {
    if (s == "") {
        print "Default: empty."
    } else if (s == "(computed)") {
        print "Default: worked out when it is asked for."
    } else if (length(s) <= 50) {
        print "Default:"
        print ".Ql " literal(s)
    } else {
        print "Default:"
        print ".Bd -ragged -offset indent -compact"
        n = split(s, words, / +/)
        for (i = 1; i <= n; i++) {
            if (words[i] != "") {
                print ".Li " literal(words[i])
            }
        }
        print ".Ed"
    }
}
/^#/ || NF != 9 { next }
$8 != section {
    if (section != "") {
        print ".El"
    }
    section = $8
    print ".Sh " toupper(title[section] == "" ? section : title[section])
    print ".Bl -tag -width Ds"
}
{
    print ".It Va " $1
    print sentence($9)
    if ($7 == "known") {
        print "Not in force yet: has no effect."
    } else if ($7 == "retired") {
        print "Accepted for old configurations; has no effect."
    }
    kind = "Type: " type[$3]
    if ($3 == "time") {
        kind = kind " (" $6 ")"
    }
    if (($3 == "int" || $3 == "time") && $4 != 0) {
        kind = kind ", at least " $4
    }
    if (($3 == "int" || $3 == "time") && $5 != 0) {
        kind = kind ", at most " $5
    }
    print kind "."
    if ($3 != "read-only") {
        show_default($2)
    }
}
END {
    print ".El"
    print ".Sh FILES"
    print ".Bl -tag -width Ds"
    print ".It Pa /etc/postern/main.cf"
    print ".El"
    print ".Sh SEE ALSO"
    print ".Xr postconf 1 ,"
    print ".Xr postern 1 ,"
    print ".Xr access 5 ,"
    print ".Xr aliases 5 ,"
    print ".Xr bounce 5 ,"
    print ".Xr canonical 5 ,"
    print ".Xr generic 5 ,"
    print ".Xr header_checks 5 ,"
    print ".Xr lookup_tables 5 ,"
    print ".Xr master.cf 5 ,"
    print ".Xr relocated 5 ,"
    print ".Xr transport 5 ,"
    print ".Xr virtual 5"
}
