# shellcheck shell=bash
# Sourced by the scripts beside it: finds Python and git, makes the environment once, keeps it right afterwards.
# Works with bash 3.2. The environment is .venv in the checkout, or the folder that CODECHUNK_VENV names; the one with
# other people's chunkers lies beside it and is called the same with -bench behind.

set -euo pipefail
# Another Python's modules must not leak into ours.
unset PYTHONHOME PYTHONPATH
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${CODECHUNK_VENV:-$root/.venv}
lock=$venv.lock
lock_is_ours=no

say() { printf 'codechunk: %s\n' "$*" >&2; }

fail() {
  say "$@"
  exit 1
}

need_git() {
  # Asking git, not `command -v`: without the developer tools, macOS has a git that only says so.
  git --version >/dev/null 2>&1 || fail "git is needed and was not found; install it (https://git-scm.com/downloads)."
}

# Prints the first Python that is new enough and can make environments. $PYTHON, when set, is the only candidate.
find_python() {
  local candidate facts old="" bare=""
  set -- python3.13 python3.12 python3.11 python3 python
  if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; fi
  for candidate in "$@"; do
    # Version 2 must understand this too. A launcher without its Python (pyenv's) fails and is passed over.
    facts=$("$candidate" -c 'import sys
print("%d.%d" % sys.version_info[:2])
print(sys.version_info[:2] >= (3, 11))
import ensurepip, venv
print("complete")' 2>/dev/null </dev/null) || true
    case $facts in
      *True*complete*)
        printf '%s\n' "$candidate"
        return 0
        ;;
      *True*) bare=$candidate ;;
      *False*) old="${old:+$old, }$candidate is ${facts%%[!0-9.]*}" ;;
    esac
  done
  if [ -n "$bare" ]; then
    fail "$bare cannot make virtual environments; install its venv module (Debian, Ubuntu: apt install python3-venv)."
  fi
  if [ -n "$old" ]; then
    fail "Python 3.11 or newer is needed ($old); install one, or name one with PYTHON=/path/to/python3."
  fi
  fail "Python 3.11 or newer is needed and none was found; install one, or name one with PYTHON=/path/to/python3."
}

# What the environment $1 (run, dev or bench) is made from, word for word. The same text is its stamp, so nothing has to
# be hashed. A moved checkout, another Python and a changed pin all make it differ.
recipe() {
  printf '%s\n' "$root"
  "${PYTHON:-$venv/bin/python}" -V 2>&1 || true
  cat "$root/pyproject.toml" "$root/requirements.lock" "$root/requirements-build.lock"
  if [ "$1" != run ]; then cat "$root/requirements-$1.lock"; fi
}

is_ready() {
  [ -x "$venv/bin/python" ] && [ -x "$venv/bin/codechunk" ] && [ -f "$venv/stamp-$1" ] &&
    [ "$(recipe "$1")" = "$(cat "$venv/stamp-$1")" ]
}

# A symbolic link is made in one step and carries its owner's process id, so a killed owner can be told from a busy one.
take_lock() {
  local owner told=no
  mkdir -p "$(dirname "$lock")"
  until ln -sn "pid-$$" "$lock" 2>/dev/null; do
    owner=$(readlink "$lock" 2>/dev/null || true)
    if [ -z "$owner" ] && [ ! -w "$(dirname "$lock")" ]; then
      fail "$(dirname "$lock") is not writable; name another place with CODECHUNK_VENV=/path/to/folder."
    fi
    if [ -n "$owner" ] && ! kill -0 "${owner#pid-}" 2>/dev/null && [ ! -d "/proc/${owner#pid-}" ]; then
      # Only one of several who wait may clear it away; it looks again first.
      if mkdir "$lock.clearing" 2>/dev/null; then
        if [ "$(readlink "$lock" 2>/dev/null || true)" = "$owner" ]; then rm -f "$lock"; fi
        rmdir "$lock.clearing"
        continue
      fi
    fi
    if [ "$told" = no ]; then say "another script is installing; waiting for it (it holds $lock) ..."; fi
    told=yes
    sleep 0.2
  done
  lock_is_ours=yes
}

drop_lock() {
  if [ "$lock_is_ours" = yes ]; then rm -f "$lock"; fi
  lock_is_ours=no
}

# Runs a step of the installation silently; when it fails, its own last lines are shown.
step() {
  local output
  if ! output=$("$@" 2>&1 </dev/null); then
    printf '%s\n' "$output" | tail -n 15 >&2
    fail "the installation failed, see the lines above; the same command tries again."
  fi
}

write_stamp() {
  PYTHON='' recipe "$1" >"$venv/stamp.new"
  mv "$venv/stamp.new" "$venv/stamp-$1"
}

install_env() {
  local kind=$1 python=$2 fresh=yes
  # An environment without any stamp was interrupted half-way: it is made again, never trusted.
  if [ -f "$venv/stamp-run" ] && [ "$(head -n 2 "$venv/stamp-run")" = "$(recipe run 2>/dev/null | sed -n 1,2p)" ]; then
    fresh=no
  fi
  if [ "$fresh" = yes ] && [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv")" ]; then
    fail "$venv is not empty and no environment of Python; name another folder with CODECHUNK_VENV."
  fi
  rm -f "$venv/stamp-run" "$venv/stamp-dev" "$venv/stamp-bench"
  if [ "$fresh" = yes ]; then
    say "installing into $venv (only on first use, a minute or two) ..."
    rm -rf "$venv"
    step "$python" -m venv "$venv"
  else
    say "updating $venv ..."
  fi
  set -- -r "$root/requirements.lock" -r "$root/requirements-build.lock"
  if [ "$kind" != run ]; then set -- "$@" -r "$root/requirements-$kind.lock"; fi
  step "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --no-user "$@"
  step "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --no-user \
    --no-deps --no-build-isolation --editable "$root"
  # Last, and by renaming: whoever sees a stamp sees a whole environment.
  if [ "$kind" != run ]; then write_stamp "$kind"; fi
  write_stamp run
}

# Byte code saves a quarter of a second a start, and Python does not write it under PYTHONDONTWRITEBYTECODE. The
# sources are used where they are (editable), so a change is seen at once; only its byte code is made anew here.
compile_sources() {
  local mark=$venv/compiled
  if [ -f "$mark" ] && [ -z "$(find "$root/codechunk" -name '*.py' -newer "$mark")" ]; then return 0; fi
  : >"$mark" || return 0
  # A failure costs time only: a read-only checkout, or a file with a syntax error that its import will name.
  "$venv/bin/python" -m compileall -q "$root/codechunk" >/dev/null 2>&1 || true
}

# prepare_env run|dev|bench: afterwards "$venv/bin" has codechunk, and with dev also what tests and checks need. With
# bench it has the extra of that name instead, in an environment of its own: nothing of it may reach the product's.
prepare_env() {
  local python
  need_git
  if [ "$1" = bench ]; then
    venv=$venv-bench
    lock=$venv.lock
  fi
  if ! is_ready "$1"; then
    python=$(find_python) || exit 1
    trap drop_lock EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    take_lock
    # Whoever held the lock may have done it already.
    if ! is_ready "$1"; then install_env "$1" "$python"; fi
    drop_lock
    trap - EXIT INT TERM HUP
  fi
  compile_sources
}
