#!/bin/sh
# The whole file system of the image, in a folder: the program, the libraries that it is linked with, the certificates
# of the authorities, and nothing else; no shell, no package manager.
#
#   deploy/rootfs.sh PROGRAM FOLDER
set -eu

program=$1
root=$2

mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/etc/tidegate" "$root/var/lib/tidegate"
cp "$program" "$root/usr/bin/tidegate"
strip "$root/usr/bin/tidegate"

# The libraries, where the program and its loader look for them.
ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp --dereference "$library" "$root$library"
done

# For model servers behind TLS; left out where the machine has none.
[ ! -f /etc/ssl/certs/ca-certificates.crt ] || cp --dereference /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

# Names for the user, so that tools can say who it is.
echo 'tidegate:x:65532:65532::/:/usr/bin/tidegate' >"$root/etc/passwd"
echo 'tidegate:x:65532:' >"$root/etc/group"
[ "$(id -u)" -ne 0 ] || chown 65532:65532 "$root/var/lib/tidegate"
