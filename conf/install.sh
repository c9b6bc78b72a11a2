#!/bin/sh
# conf/install.sh install|uninstall|purge, called by make with DESTDIR, PREFIX and BUILD.
#
# Installs programs, manual pages, /etc/postern (files that are there already are kept), the systemd unit and the PAM
# service.  On a live system (DESTDIR empty, root) also the users and groups, and "postern set-permissions" at the end.
# uninstall removes what install put there, but as with packages what an administrator may have changed stays: /etc/postern,
# the PAM service, data, the queue and the users.  purge removes these too, unless there is mail in the queue; mailboxes
# and /etc/aliases, which other mail systems read as well, stay even then.
set -eu

DESTDIR=${DESTDIR-}
PREFIX=${PREFIX-/usr}
BUILD=${BUILD-build}
# What people run; every other program that was built is a daemon.
commands="newaliases postalias postcat postconf postern postern-password postern-queue postern-tlsrpt postern-trace postlog postmap postqueue postsuper postdrop"
libexec=$DESTDIR$PREFIX/lib/postern
sbin=$DESTDIR$PREFIX/sbin
bin=$DESTDIR$PREFIX/bin
man=$DESTDIR$PREFIX/share/man
etc=$DESTDIR/etc/postern
spool=$DESTDIR/var/spool/postern
unit=$DESTDIR/lib/systemd/system
[ -d "$DESTDIR/lib/systemd/system" ] || unit=$DESTDIR$PREFIX/lib/systemd/system

daemons() {
    for program in "$BUILD"/bin/*; do
        case " $commands sendmail " in
        *" ${program##*/} "*) ;;
        *) echo "${program##*/}" ;;
        esac
    done
}

live() { [ -z "$DESTDIR" ] && [ "$(id -u)" -eq 0 ]; }

add_group() { getent group "$1" >/dev/null || groupadd --system "$1"; }
add_user() {
    getent passwd "$1" >/dev/null ||
        useradd --system --gid "$1" --home-dir "$2" --no-create-home --shell /usr/sbin/nologin --comment "$3" "$1"
}

make_users() {
    add_group postern
    add_group postern-net
    add_group postdrop
    add_user postern /var/spool/postern "Postern mail queue"
    add_user postern-net /nonexistent "Postern network services"
}

install_pages() {
    for page in man/*.[1-8] "$BUILD"/man/postconf.5; do
        section=${page##*.}
        install -d "$man/man$section"
        install -m 644 "$page" "$man/man$section/"
    done
    ln -sf sendmail.1 "$man/man1/mailq.1"
    ln -sf postern.1 "$man/man1/postfix.1"
    ln -sf smtp.8 "$man/man8/lmtp.8"
}

# The distribution's own rules for passwords: Debian's file names, or Red Hat's.
pam_service() {
    if [ -e /etc/pam.d/password-auth ] && [ ! -e /etc/pam.d/common-auth ]; then
        echo conf/pam.d/postern.redhat
    else
        echo conf/pam.d/postern
    fi
}

# What install would overwrite, the package manager would give back to a package at its next update.
refuse_other_packages() {
    for file in "$sbin/sendmail" "$sbin/postconf" "$bin/mailq"; do
        owner=$(dpkg-query -S "$file" 2>/dev/null || rpm -qf "$file" 2>/dev/null) || continue
        echo "$file belongs to a package (${owner%%:*}): remove that first, or install elsewhere, as with PREFIX=/usr/local" >&2
        exit 1
    done
}

# A file of conf/ as it is installed: the programs' directories are PREFIX's.
configured() {
    case $1 in
    *.service) sed "s#/usr/sbin/#$PREFIX/sbin/#" "$1" ;;
    */main.cf)
        cat "$1"
        if [ "$PREFIX" != /usr ]; then
            printf '\n# Where "make install" has put the programs.\ncommand_directory = %s/sbin\ndaemon_directory = %s/lib/postern\n' "$PREFIX" "$PREFIX"
        fi
        ;;
    *) cat "$1" ;;
    esac
}

put() {
    configured "$1" >"$2"
    chmod 644 "$2"
}

do_install() {
    if live; then refuse_other_packages; fi
    install -d "$libexec" "$sbin" "$bin" "$etc" "$unit" "$DESTDIR/etc/pam.d" "$DESTDIR/var/spool" "$DESTDIR/var/lib/postern"
    for program in $(daemons); do install -m 755 "$BUILD/bin/$program" "$libexec/"; done
    for program in $commands; do install -m 755 "$BUILD/bin/$program" "$sbin/"; done
    install -m 755 "$BUILD/bin/sendmail" "$sbin/sendmail"
    ln -sf postern "$sbin/postfix"
    ln -sf ../sbin/sendmail "$bin/mailq"
    ln -sf ../sbin/newaliases "$bin/newaliases"   # Debian's Postfix has it there, and scripts name it with its path
    ln -sf ../sbin/sendmail "$DESTDIR$PREFIX/lib/sendmail"
    for file in main.cf master.cf; do
        [ -e "$etc/$file" ] || put "conf/$file" "$etc/$file"
        put "conf/$file" "$etc/$file.dist"
    done
    [ -e "$DESTDIR/etc/aliases" ] || install -m 644 conf/aliases "$DESTDIR/etc/aliases"
    [ -e "$DESTDIR/etc/pam.d/postern" ] || install -m 644 "$(pam_service)" "$DESTDIR/etc/pam.d/postern"
    put conf/postern.service "$unit/postern.service"
    install_pages
    if live; then
        make_users
        for program in postdrop postqueue; do
            chgrp postdrop "$sbin/$program"
            chmod 2755 "$sbin/$program"
        done
        chown postern:postern /var/lib/postern
        chmod 700 /var/lib/postern
        if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
        "$sbin/postern" set-permissions
        [ ! -e /etc/aliases ] || "$sbin/newaliases" || echo "newaliases failed: local aliases do not work until it succeeds" >&2
        echo "installed; next: edit $etc/main.cf, then: postern check && systemctl enable --now postern"
    fi
}

stop_it() {
    if live && [ -x "$sbin/postern" ]; then "$sbin/postern" stop >/dev/null 2>&1 || true; fi
}

do_uninstall() {
    stop_it
    if live; then
        if [ -d /run/systemd/system ]; then systemctl disable postern >/dev/null 2>&1 || true; fi
        rm -f /etc/systemd/system/multi-user.target.wants/postern.service
    fi
    rm -rf "$libexec"
    for program in $commands sendmail postfix; do rm -f "$sbin/$program"; done
    rm -f "$bin/mailq" "$bin/newaliases" "$man/man1/mailq.1" "$man/man1/postfix.1" "$man/man8/lmtp.8" "$DESTDIR$PREFIX/lib/sendmail" "$unit/postern.service" "$etc/main.cf.dist" "$etc/master.cf.dist"
    for page in man/*.[1-8] "$BUILD"/man/postconf.5; do rm -f "$man/man${page##*.}/${page##*/}"; done
    if live && [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
}

# Messages: files whose names are queue ids.  What a killed writer left unfinished (tmp.) is none, nor is an agent's lock.
queued() {
    for folder in maildrop incoming active deferred hold corrupt transit; do
        if [ -d "$spool/$folder/" ]; then find "$spool/$folder/" -type f ! -name 'tmp.*' ! -name 'lock.*'; fi
    done
}

# Commit logs of a mail system that was not stopped in good order: nothing else may have what is in them (commit_log(5)).
logs_in_use() {
    for log in "$spool"/commit/*.*; do
        if [ -f "$log" ] && [ "$(od -A n -t u1 -j 10 -N 2 "$log" | tr -d ' ')" = 10 ]; then echo "$log"; fi
    done
}

refuse_mail() {
    if [ -n "$(queued)" ]; then
        echo "there is mail in $spool: deliver it (postqueue -f) or remove it (postsuper -d ALL) first; nothing was purged" >&2
        exit 1
    fi
}

do_purge() {
    refuse_mail
    stop_it
    refuse_mail   # what came meanwhile
    if [ -n "$(logs_in_use)" ]; then
        echo "there may be mail in $spool/commit: start and stop the mail system first; nothing was purged" >&2
        exit 1
    fi
    do_uninstall
    transit=$(readlink "$spool/transit") || transit=
    case $transit in
    /*/*)
        rm -rf "$transit"
        rmdir "${transit%/*}" 2>/dev/null || true   # other queues' are there too
        ;;
    esac
    rm -rf "$etc" "$DESTDIR/etc/pam.d/postern" "$DESTDIR/var/lib/postern" "$spool"
    if live; then
        for user in postern postern-net; do ! getent passwd "$user" >/dev/null || userdel "$user"; done
        groups="postern postern-net"
        if [ ! -e /usr/sbin/postdrop ]; then groups="$groups postdrop"; fi   # Postfix's too, where that is installed
        for group in $groups; do ! getent group "$group" >/dev/null || groupdel "$group" || true; done
    fi
}

case ${1-} in
install) do_install ;;
uninstall)
    do_uninstall
    echo "removed; $etc, $DESTDIR/etc/pam.d/postern, $DESTDIR/var/lib/postern, the queue and the users are still there (make purge)"
    ;;
purge)
    do_purge
    echo "removed, with configuration, data and users; mailboxes and $DESTDIR/etc/aliases are still there"
    ;;
*)
    echo "usage: DESTDIR=DIR PREFIX=/usr BUILD=build conf/install.sh install|uninstall|purge" >&2
    exit 64
    ;;
esac
