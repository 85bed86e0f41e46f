#!/usr/bin/env bash
# Make sure that a program is there which no wheel carries: chromium (the page's tests) or pgbouncer.
set -euo pipefail
program="$1"
if command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ]; then exit 0; fi
if [ "$program" = chromium ] && [ -x "${MOTADATA_CHROMIUM:-}" ]; then exit 0; fi
if ! command -v apt-get >/dev/null; then
  echo "No $program found. Install it; a Chromium elsewhere is named by MOTADATA_CHROMIUM=/path." >&2
  exit 1
fi
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends "$program" >/dev/null
