#!/bin/sh
# Collects the files of the image: `image-files.sh PROFILE FOLDER` takes the binary that was built with this profile of cargo, and writes
# FOLDER/image, the root of the image, and FOLDER/data, the empty data folder. Runs in the stage `build` of the Containerfile, on Debian.
set -eu

case $1 in
dev) binary=target/debug/keygate ;;
release) binary=target/pgo/keygate ;;
*) binary=target/$1/keygate ;;
esac
image=$2/image
data=$2/data

umask 022
mkdir -p "$image/etc/keygate" "$image/etc/ssl/certs" "$image/var/lib/dpkg/status.d" "$data"
install -D -m 755 "$binary" "$image/usr/bin/keygate"

# The shared libraries of the binary and the loader, at the paths that the binary names.
libraries=$(ldd "$binary" | grep -o '/[^ ]*')
for library in $libraries; do
    install -D -m 755 "$(readlink -f "$library")" "$image$library"
done

install -m 644 /etc/ssl/certs/ca-certificates.crt "$image/etc/ssl/certs/ca-certificates.crt"
install -m 644 /etc/os-release "$image/etc/os-release"
echo "keygate:x:65532:65532:Keygate:/var/lib/keygate:/sbin/nologin" >"$image/etc/passwd"
echo "keygate:x:65532:" >"$image/etc/group"
echo "hosts: files dns" >"$image/etc/nsswitch.conf"

# The form in which scanners look for packages of an image without dpkg.
for package in libc6 libgcc-s1 ca-certificates; do
    dpkg-query --status "$package" >"$image/var/lib/dpkg/status.d/$package"
done
