#!/usr/bin/env bash
# Make sure that a Chromium is there for the browser tests.
set -euo pipefail
if command -v chromium >/dev/null || [ -x "${MOTADATA_CHROMIUM:-}" ]; then exit 0; fi
if ! command -v apt-get >/dev/null; then
  echo "No Chromium found. Install one and name it in MOTADATA_CHROMIUM=/path/to/chromium." >&2
  exit 1
fi
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
