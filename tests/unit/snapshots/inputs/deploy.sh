#!/usr/bin/env bash
set -euo pipefail

readonly ROOT="$(cd "$(dirname "$0")" && pwd)"

# Prints a line with the time.
log() {
  printf '%s %s\n' "$(date +%H:%M:%S)" "$*" >&2
}

function build_image {
  local tag="$1"
  log "building $tag"
  docker build --tag "$tag" --file "$ROOT/Dockerfile" "$ROOT"
}

for target in "$@"; do
  build_image "$target"
done
