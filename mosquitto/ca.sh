#!/bin/sh
# Makes a private CA, the broker's certificate, and certificates for clients.
#
# Nothing that exists is ever overwritten: run it again, and it makes only what is missing.
# Private keys are made with mode 0600 and never leave the folder.
set -eu
umask 077
LC_ALL=C
export LC_ALL

CA_DAYS=${CA_DAYS:-3650}
CERT_DAYS=${CERT_DAYS:-825}
SOON_SECONDS=2592000 # 30 days

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "ca.sh: $*"
    exit 1
}
usage() {
    say "usage: ca.sh DIR ca                 the CA alone"
    say "       ca.sh DIR server HOST...     server.key and server.crt for these names and addresses"
    say "       ca.sh DIR client NAME        client-NAME.key and client-NAME.crt"
    say "Lifetimes in days: CA_DAYS (3650), CERT_DAYS (825)."
    exit 2
}

# place FILE TARGET MODE: puts a finished file where it belongs, unless something is there already.
place() {
    chmod "$3" "$1"
    ln "$1" "$2" || fail "$2 appeared meanwhile; it was left alone"
    rm "$1"
    say "made $2"
}

# Tells whether certificate $2 must be made, with key $1 made if need be.
wants() {
    if [ -e "$2" ]; then
        [ -e "$1" ] || fail "$2 is there without its key $1; restore the key, or move the certificate away"
        openssl x509 -in "$2" -noout -checkend "$SOON_SECONDS" >/dev/null ||
            say "warning: $2 ends within 30 days; move it away and run this again"
        say "kept $2"
        return 1
    fi
    if [ -e "$1" ]; then
        say "kept $1"
    else
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/key"
        place "$work/key" "$1" 600
    fi
}

make_ca() {
    wants "$folder/ca.key" "$folder/ca.crt" || return 0
    cat >"$work/conf" <<EOF
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = config-daemon private CA
[extensions]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
EOF
    openssl req -x509 -new -sha256 -days "$CA_DAYS" -config "$work/conf" \
        -key "$folder/ca.key" -out "$work/crt"
    place "$work/crt" "$folder/ca.crt" 644
}

# sign BASENAME COMMON-NAME USAGE [SAN]: the certificate for BASENAME.key.
sign() {
    [ -e "$folder/ca.key" ] || fail "$folder/ca.key is not here; certificates are made where the CA is kept"
    cat >"$work/conf" <<EOF
[req]
distinguished_name = name
prompt = no
[name]
CN = $2
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = $3
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
${4:+subjectAltName = $4}
EOF
    openssl req -new -sha256 -config "$work/conf" -key "$folder/$1.key" -out "$work/csr"
    openssl x509 -req -sha256 -days "$CERT_DAYS" -in "$work/csr" -CA "$folder/ca.crt" \
        -CAkey "$folder/ca.key" -set_serial "0x$(openssl rand -hex 16)" \
        -extfile "$work/conf" -extensions extensions -out "$work/crt" 2>"$work/talk" ||
        fail "$(cat "$work/talk")"
    place "$work/crt" "$folder/$1.crt" 644
}

# Prints `IP` or `DNS`, whichever a certificate calls this host. What is neither would be read by
# openssl as more configuration.
kind_of() {
    case $1 in
    '' | *[!0-9A-Za-z.:*-]* | -*) fail "'$1' is neither a host name nor an address" ;;
    *:*) echo IP ;;
    *[!0-9.]*) echo DNS ;;
    *) echo IP ;;
    esac
}

make_server() {
    names=
    for host; do
        kind=$(kind_of "$host")
        names="${names:+$names, }$kind:$host"
    done
    if wants "$folder/server.key" "$folder/server.crt"; then
        sign server "config-daemon broker" serverAuth "$names"
        return
    fi
    for host; do
        check=-checkhost
        [ "$(kind_of "$host")" = DNS ] || check=-checkip
        openssl x509 -in "$folder/server.crt" -noout "$check" "$host" | grep -q ' does match ' ||
            fail "$folder/server.crt does not cover $host; move it away and run this again"
    done
}

make_client() {
    case $1 in
    '' | *[!0-9A-Za-z._-]* | [.-]*) fail "'$1' is no client name: letters, digits, dot, dash, underscore" ;;
    esac
    if wants "$folder/client-$1.key" "$folder/client-$1.crt"; then
        sign "client-$1" "$1" clientAuth
    fi
}

[ $# -ge 2 ] || usage
folder=$1 action=$2
shift 2
command -v openssl >/dev/null || fail "openssl is missing: apt-get install openssl"
case $action:$# in
ca:0 | client:1) ;;
server:0) usage ;;
server:*) ;;
*) usage ;;
esac
mkdir -p "$folder"
work=$(mktemp -d "$folder/.ca.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

make_ca
case $action in
server) make_server "$@" ;;
client) make_client "$@" ;;
esac
