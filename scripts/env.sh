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

# Runs a step of the installation. Its output goes to a log; people see how far it is. When it fails, the last lines of
# the log are shown.
step() {
  if ! "$@" </dev/null 2>&1 | watch_step; then
    if [ -f "$log" ]; then tail -n 15 "$log" >&2; fi
    return 1
  fi
}

must() { step "$@" || fail "the installation failed, see the lines above; the same command tries again."; }

# Reads what pip or uv says: on a terminal it is one line that changes, elsewhere a plain line now and then.
watch_step() {
  local line word name count=0 live=no
  if [ -t 2 ]; then live=yes; fi
  : >"$log"
  while IFS= read -r line; do
    printf '%s\n' "$line" >>"$log"
    read -r word name _ <<<"$line" || true
    if [ "$word" = Collecting ] || [ "$word" = Processing ]; then count=$((count + 1)); fi
    if [ "$live" = yes ]; then
      case $word in
        Collecting | Processing) printf '\r\033[K  %s of %s packages: %.50s' "$count" "$packages" "$name" >&2 ;;
        Downloading | Resolved | Prepared | Installed | Installing) printf '\r\033[K  %.70s' "$line" >&2 ;;
      esac
    else
      case $word in
        Resolved | Prepared | Installed) if [ "$packages" -gt 1 ]; then say "  $line"; fi ;;
        Installing) if [ "$packages" -gt 1 ]; then say "  all are here; unpacking them, the longer half ..."; fi ;;
        Collecting | Processing) if [ $((count % 20)) -eq 0 ]; then say "  $count of $packages packages ..."; fi ;;
      esac
    fi
  done
  if [ "$live" = yes ]; then printf '\r\033[K' >&2; fi
}

# uv installs in a third of pip's time; pip is always there. CODECHUNK_INSTALLER=pip or uv names one of them.
find_installer() {
  case ${CODECHUNK_INSTALLER:-} in
    pip | uv) printf '%s\n' "$CODECHUNK_INSTALLER" ;;
    "") if uv --version >/dev/null 2>&1 </dev/null; then echo uv; else echo pip; fi ;;
    *) fail "CODECHUNK_INSTALLER is $CODECHUNK_INSTALLER; it can be uv or pip." ;;
  esac
}

# $1: the Python to make the environment of, or nothing when it is there. The rest: what to install.
install_with_pip() {
  local python=$1
  shift
  if [ -n "$python" ]; then
    say "step 1 of 3: an environment for $("$python" -V 2>&1) ..."
    rm -rf "$venv"
    must "$python" -m venv "$venv"
  fi
  say "step 2 of 3: $packages packages, with pip ..."
  must "$venv/bin/python" -m pip install --progress-bar off --no-input --disable-pip-version-check --no-user "$@"
  local packages=1
  say "step 3 of 3: codechunk itself ..."
  must "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --no-user \
    --no-deps --no-build-isolation --editable "$root"
}

# The same with uv; fails when uv does.
install_with_uv() {
  local python=$1
  shift
  if [ -n "$python" ]; then
    say "step 1 of 3: an environment for $("$python" -V 2>&1) ..."
    rm -rf "$venv"
    step uv venv --no-project --python "$python" "$venv" || return 1
  fi
  say "step 2 of 3: $packages packages, with uv ..."
  # To compile everything takes longer than to install it; Python compiles what it imports, unless it is told not to.
  if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ]; then set -- --compile-bytecode "$@"; fi
  step uv pip install --python "$venv/bin/python" "$@" || return 1
  local packages=1
  say "step 3 of 3: codechunk itself ..."
  step uv pip install --python "$venv/bin/python" --no-deps --no-build-isolation --editable "$root"
}

write_stamp() {
  PYTHON='' recipe "$1" >"$venv/stamp.new"
  mv "$venv/stamp.new" "$venv/stamp-$1"
}

install_env() {
  local kind=$1 python=$2 wanted=$2 fresh=yes installer packages log=$venv.log
  installer=$(find_installer) || exit 1
  # An environment without any stamp was interrupted half-way: it is made again, never trusted.
  if [ -f "$venv/stamp-run" ] && [ "$(head -n 2 "$venv/stamp-run")" = "$(recipe run 2>/dev/null | sed -n 1,2p)" ]; then
    fresh=no
  fi
  # What uv made has no pip in it.
  if [ "$installer" = pip ] && grep -q '^uv = ' "$venv/pyvenv.cfg" 2>/dev/null; then fresh=yes; fi
  if [ "$fresh" = yes ] && [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv")" ]; then
    fail "$venv is not empty and no environment of Python; name another folder with CODECHUNK_VENV."
  fi
  rm -f "$venv/stamp-run" "$venv/stamp-dev" "$venv/stamp-bench"
  set -- -r "$root/requirements.lock" -r "$root/requirements-build.lock"
  if [ "$kind" != run ]; then set -- "$@" -r "$root/requirements-$kind.lock"; fi
  # The locks of run and dev name every package. With dependencies, what chromadb asks for and codechunk never loads
  # would come too (docs/decisions/0055-pinned-environment.md).
  if [ "$kind" != bench ]; then set -- --no-deps "$@"; fi
  packages=$(sed -n 's/==.*//p' "$root"/requirements.lock "$root"/requirements-build.lock \
    "$root/requirements-${kind/#run/build}.lock" | sort -u | wc -l | tr -d ' ')
  if [ "$fresh" = yes ]; then
    say "installing into $venv (only on first use, about a minute) ..."
  else
    say "updating $venv ..."
    python=""
  fi
  if [ "$installer" = uv ] && ! install_with_uv "$python" "$@"; then
    say "uv could not do it, see the lines above; trying pip ..."
    installer=pip python=$wanted
  fi
  if [ "$installer" = pip ]; then install_with_pip "$python" "$@"; fi
  rm -f "$log"
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
