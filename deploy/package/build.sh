#!/usr/bin/env bash
# The Debian package: program, unit, config, logrotate, man pages, completions, examples.
#
#   deploy/package/build.sh PROGRAM FOLDER      # the .deb is put into FOLDER, and named on standard output
#
#   COMPRESS     xz (default) or gz, which takes a tenth of the time
#
# PROGRAM is what `cargo build --profile dist --locked -p gateway --bin tidegate --features jemalloc` made. Needs cargo-deb
# (`cargo install --locked cargo-deb`), dpkg-dev and gzip. What goes where is in gateway/Cargo.toml, [package.metadata.deb].
set -euo pipefail

program=$(realpath "$1")
mkdir -p "$2"
folder=$(realpath "$2")
house=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
staged=$house/target/package

rm -rf "$staged"
mkdir -p "$staged/man" "$staged/scripts"
install -m 755 "$program" "$staged/tidegate"
strip "$staged/tidegate"
install -m 755 "$house"/deploy/package/scripts/* "$staged/scripts/"
install -m 644 "$house/deploy/package/tidegate.yaml" "$house/deploy/systemd/tidegate.logrotate" "$staged/"

# The unit of deploy/systemd for a program in /usr/bin and a user of the package's own, who is there before the unit runs, so
# that the config can be his to read and nobody else's.
sed -e '1,/^\[Unit\]/{/^\[Unit\]/!d}' \
  -e 's|/usr/local/bin/|/usr/bin/|g' \
  -e 's|^Documentation=.*|Documentation=man:tidegate(1)|' \
  -e 's|^# A user that exists only while this runs, a folder|# A user of its own, a folder|' \
  -e 's|/etc/tidegate/admin\.token|/etc/tidegate/admin-token|' \
  -e 's|^ConfigurationDirectory=tidegate|&\nConfigurationDirectoryMode=0750|' \
  -e 's|^DynamicUser=yes|User=tidegate\nGroup=tidegate|' \
  "$house/deploy/systemd/tidegate.service" >"$staged/tidegate.service"
grep -q '^User=tidegate' "$staged/tidegate.service"

"$program" man --output "$staged/man"
gzip -9n "$staged"/man/*
"$program" completions bash >"$staged/completion.bash"
"$program" completions zsh >"$staged/completion.zsh"
gzip -9nc "$house/CHANGELOG.md" >"$staged/changelog.gz"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$house/Cargo.toml" | head -n 1)
printf 'tidegate (%s-1) unstable; urgency=medium\n\n  * Version %s; changelog.gz says what changed.\n\n -- %s  %s\n' \
  "$version" "$version" 'Tidegate maintainers <maintainers@tidegate.invalid>' \
  "$(date -u -R -d "@${SOURCE_DATE_EPOCH:-$(git -C "$house" log -1 --format=%ct 2>/dev/null || echo 0)}")" >"$staged/changelog"

cd "$house"
cargo deb --quiet --locked --compress-system --compress-type "${COMPRESS:-xz}" --package gateway --no-build --no-strip --output "$folder"
