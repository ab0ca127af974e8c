# Runs in dom0, after helpers.sh: guests with the stand-in for varstored, and one
# without. Variables are kept in the file `variables`.

# serve NAME [MODE]: starts the guest, and the stand-in before the guest runs.
serve() {
    start "$1" -p
    serve_id=$(xl domid "$1")
    requests=$out/log/varstored-$1
    ./varstored "$serve_id" variables "$requests" $2 2> "$requests.err" &
    eventually 10 grep -q '^ready' "$requests" || fail "no stand-in: $(cat "$requests.err")"
    xl unpause "$1"
}

# served NAME: it ends with all checks of the application passed, the last of them
# after ExitBootServices, over port 0xE9.
served() {
    eventually 120 ended "$1" || fail "$1: it does not end, last: $(last_line "$1")"
    xl dmesg | grep -q "^(d$serve_id) .* [1-9][0-9]* passed, 0 failed" ||
        fail "$1: $(xl dmesg | grep "^(d$serve_id) .*FAIL " | head -n 1) $(last_line "$1")"
    wait_gone "$1" 30
}

# asked PATTERN: the stand-in was asked so.
asked() {
    grep -q "$1" "$requests" || fail "expected a request like \`$1\`, last: $(tail -n 1 "$requests")"
}

kept() {
    grep -q "^$1$" variables || fail "expected \`$1\` among: $(tr '\n' ';' < variables)"
}

without() {
    start without -p
    serve_id=$(xl domid without)
    xl unpause without
    served without
    said without 'variables in memory' || fail "it does not say where its variables are"
    ! said without 'varstored' || fail "it finds a varstored that is not there"
}

application() {
    serve application
    served application
    said application 'variables in varstored' || fail "it does not say where its variables are"
    asked '^space '
    asked '^next .* at_runtime=0: 0x0$'
    asked '^set Runtime .* at_runtime=0 attributes=0x7 size=7: 0x0$'
    asked '^get Runtime .* at_runtime=1: 0x0$'
    asked '^set Later .* at_runtime=1 attributes=0x7 size=5: 0x0$'
    ! grep ' Boot ' "$requests" | grep 'at_runtime=1: 0x0' || fail "a boot variable at run time"
    kept 'Runtime 1d3b7c52-8e0f-4a96-b127-65fa309ce84b 7 72756e74696d65'
    ! grep '^Boot ' variables || fail "a volatile variable is kept"
}

linux() {
    serve linux
    finish linux $patience
    asked '^set FromLinux .* at_runtime=1 attributes=0x7 size=4: 0x0$'
    ! grep 'OvmfLiteTest .* at_runtime=0' "$requests" || fail "a request of Linux as if before its time"
    kept 'FromLinux cfc8fc79-be2e-4ddc-97f0-9f98bfe298a0 7 6b657074'
}

mute() {
    serve mute mute
    served mute
    said mute 'variables in memory: expected varstored' || fail "it does not miss varstored"
}

hostile() {
    rm -f variables
    serve "$1" "$1"
    served "$1"
    said "$1" 'variables in varstored' || fail "it does not use varstored"
}
