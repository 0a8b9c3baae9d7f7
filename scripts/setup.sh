#!/usr/bin/env bash
# Installs what building and testing need and this Debian machine lacks (scripts/packages.txt).
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
while read -r package; do
  case $package in '' | '#'*) continue ;; esac
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done <scripts/packages.txt
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ]; then
  as_root=()
elif command -v sudo >/dev/null && sudo -v; then
  as_root=(sudo)
else
  echo "These packages are missing, and installing them needs root or sudo:" >&2
  echo "  apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q
"${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
