#!/bin/sh
# conf/install.sh install|uninstall, called by make with DESTDIR, PREFIX and BUILD.
#
# Installs programs, manual pages, /etc/postern (files that are there already are kept), the systemd unit and the PAM
# service.  On a live system (DESTDIR empty, root) also the users and groups, and "postern set-permissions" at the end.
# uninstall removes what install put there; /etc/postern, the queue and the users stay.
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

do_install() {
    install -d "$libexec" "$sbin" "$bin" "$etc" "$unit" "$DESTDIR/etc/pam.d" "$DESTDIR/var/spool" "$DESTDIR/var/lib/postern"
    for program in $(daemons); do install -m 755 "$BUILD/bin/$program" "$libexec/"; done
    for program in $commands; do install -m 755 "$BUILD/bin/$program" "$sbin/"; done
    install -m 755 "$BUILD/bin/sendmail" "$sbin/sendmail"
    ln -sf postern "$sbin/postfix"
    ln -sf ../sbin/sendmail "$bin/mailq"
    ln -sf ../sbin/newaliases "$bin/newaliases"   # Debian's Postfix has it there, and scripts name it with its path
    ln -sf ../sbin/sendmail "$DESTDIR$PREFIX/lib/sendmail"
    for file in main.cf master.cf; do
        [ -e "$etc/$file" ] || install -m 644 "conf/$file" "$etc/$file"
        install -m 644 "conf/$file" "$etc/$file.dist"
    done
    [ -e "$DESTDIR/etc/aliases" ] || install -m 644 conf/aliases "$DESTDIR/etc/aliases"
    [ -e "$DESTDIR/etc/pam.d/postern" ] || install -m 644 "$(pam_service)" "$DESTDIR/etc/pam.d/postern"
    install -m 644 conf/postern.service "$unit/postern.service"
    install_pages
    if live; then
        make_users
        for program in postdrop postqueue; do
            chgrp postdrop "$sbin/$program"
            chmod 2755 "$sbin/$program"
        done
        chown postern:postern /var/lib/postern
        chmod 700 /var/lib/postern
        "$sbin/postern" set-permissions
        [ ! -e /etc/aliases ] || "$sbin/newaliases" || echo "newaliases failed: local aliases do not work until it succeeds" >&2
        echo "installed; next: edit $etc/main.cf, then: postern check && systemctl enable --now postern"
    fi
}

do_uninstall() {
    if live && [ -x "$sbin/postern" ]; then "$sbin/postern" stop >/dev/null 2>&1 || true; fi
    rm -rf "$libexec"
    for program in $commands sendmail postfix; do rm -f "$sbin/$program"; done
    rm -f "$bin/mailq" "$bin/newaliases" "$man/man1/mailq.1" "$man/man1/postfix.1" "$man/man8/lmtp.8" "$DESTDIR$PREFIX/lib/sendmail" "$unit/postern.service" "$etc/main.cf.dist" "$etc/master.cf.dist"
    for page in man/*.[1-8] "$BUILD"/man/postconf.5; do rm -f "$man/man${page##*.}/${page##*/}"; done
    echo "removed; $etc, the queue and the users are still there"
}

case ${1-} in
install) do_install ;;
uninstall) do_uninstall ;;
*)
    echo "usage: DESTDIR=DIR PREFIX=/usr BUILD=build conf/install.sh install|uninstall" >&2
    exit 64
    ;;
esac
