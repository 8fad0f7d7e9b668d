# Sourced by the scripts beside it: makes .venv in the checkout and installs the project.
#
# `prepare_environment [EXTRA]` sets `root` (the checkout) and `python` (the environment's
# interpreter). It installs only when it has to: at first, and when pyproject.toml or the
# checkout's place changed. PYTHON names the interpreter that a new .venv is built on.

root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
venv="$root/.venv"
python="$venv/bin/python"

prepare_environment() {
  local extra="${1:-}"
  if _is_installed "$extra"; then return; fi
  exec 9<"$root/pyproject.toml"
  if command -v flock >/dev/null && ! flock -n 9; then
    _say "waiting for another run that is installing"
    flock 9
  fi
  if ! _is_installed "$extra"; then # the run that held the lock may have done it
    _make_venv
    _install "$extra"
  fi
  exec 9<&-
}

_is_installed() {
  local wanted stamp
  wanted="$(_fingerprint)"
  for stamp in "$venv/.installed-$1" "$venv/.installed-test"; do
    if [[ -f "$stamp" && "$(<"$stamp")" == "$wanted" ]]; then
      _is_new_enough "$python"
      return
    fi
  done
  return 1
}

# What an installation depends on: an editable one holds the checkout's path.
_fingerprint() {
  cksum <"$root/pyproject.toml"
  printf '%s\n' "$root"
}

_make_venv() {
  if _is_new_enough "$python"; then return; fi
  local base
  base="$(_find_python)" || exit 2
  _say "making .venv with $(_version_of "$base")"
  # A venv.py in the current folder must not stand in for the module.
  PYTHONSAFEPATH=1 "$base" -m venv --clear "$venv" \
    || _fail "$base -m venv failed; is Python's venv module installed?"
}

_install() {
  _say "installing into .venv (once, a minute or two)"
  rm -f -- "$venv"/.installed-*
  (cd -- "$root" && "$python" -m pip install -qq --disable-pip-version-check \
    --editable ".${1:+[$1]}" >&2) \
    || _fail "pip could not install the project; its message stands above"
  _fingerprint >"$venv/.installed-$1"
}

# The interpreter that PYTHON names, or the first one on the path that is new enough.
_find_python() {
  local name
  if [[ -n "${PYTHON:-}" ]]; then
    _is_new_enough "$PYTHON" \
      || _fail "PYTHON must name Python 3.11 or newer, got $PYTHON ($(_version_of "$PYTHON"))"
    printf '%s' "$PYTHON"
    return
  fi
  for name in python3 python3.13 python3.12 python3.11 python3.14 python; do
    if _is_new_enough "$name"; then
      printf '%s' "$name"
      return
    fi
  done
  _fail "needs Python 3.11 or newer, found $(_version_of python3); set PYTHON to one"
}

_is_new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

_version_of() {
  "$1" -c 'import sys; print("Python %d.%d.%d" % sys.version_info[:3])' 2>/dev/null \
    || printf 'none'
}

_say() { printf 'jaxdecode: %s\n' "$1" >&2; }

_fail() {
  _say "$1"
  exit 2
}
