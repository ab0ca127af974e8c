# Runs in dom0, after helpers.sh.

# refused NAME WORDS: the guest says them on its console and is shown as crashed.
refused() {
    start "$1"
    wait_crashed "$1" 60
    said "$1" "$2" ||
        fail "expected \`$2\`, found: $(console "$1" | tr -d '\r' | tail -n 3 | tr '\n' ' ')"
    stop "$1"
}
