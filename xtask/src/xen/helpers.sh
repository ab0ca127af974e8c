# For scenarios, which run in dom0 under busybox ash in /bed/in: source it first.
# Nothing here waits without a limit. Guests are known by the name of their
# configuration, NAME.cfg; what a guest prints is in $consoles/guest-NAME.log.
# What a scenario is after is said by `check` and `figure`.

out=/share/out
consoles=$out/console

# --- verdicts

# check NAME COMMAND...: runs the command, a function for the most part, in a
# shell that ends at the first failure. The last line it prints is the reason.
# After a failure all guests are destroyed, so that the next check starts afresh.
check() {
    check_name=$1
    shift
    check_began=$(uptime_ms)
    (
        set -e
        "$@"
    ) > "$out/steps/$check_name.log" 2>&1
    check_status=$?
    check_ms=$(($(uptime_ms) - check_began))
    if [ $check_status = 0 ]; then
        printf 'pass\t%s\t%s\t\n' "$check_name" $check_ms >> "$out/verdicts"
        return 0
    fi
    check_reason=$(grep . "$out/steps/$check_name.log" | tail -n 1 | tr '\t' ' ')
    printf 'fail\t%s\t%s\t%s\n' "$check_name" $check_ms \
        "${check_reason:-status $check_status}" >> "$out/verdicts"
    destroy_all
    return 1
}

# figure NAME VALUE: a number, with its unit, for whoever reads the report.
figure() {
    printf 'figure\t%s\t0\t%s\n' "$1" "$2" >> "$out/verdicts"
}

fail() {
    echo "$*"
    exit 1
}

# --- time

# Milliseconds since dom0's start.
uptime_ms() {
    read -r uptime _ < /proc/uptime
    echo $((${uptime%.*} * 1000 + 1${uptime#*.}0 - 1000))
}

# eventually SECONDS COMMAND...: tries until it succeeds.
eventually() {
    deadline=$(($(uptime_ms) + $1 * 1000))
    shift
    until "$@"; do
        [ "$(uptime_ms)" -lt $deadline ] || return 1
        sleep 0.2
    done
}

# --- guests

# start NAME [OPTION...]: as `xl create`.
start() {
    start_name=$1
    shift
    timeout 120 xl create "$@" "$start_name.cfg" || fail "xl create $start_name: status $?"
}

running() {
    xl domid "$1" > /dev/null 2>&1
}

gone() {
    ! running "$1"
}

# The six letters of `xl list`; the fifth is a c after a crash.
state() {
    xl list "$1" 2> /dev/null | awk 'NR == 2 { print $5 }'
}

crashed() {
    case $(state "$1") in
    ????c?) true ;;
    *) false ;;
    esac
}

ended() {
    case $(state "$1") in
    *[scd]* | '') true ;;
    *) false ;;
    esac
}

# What the guest has printed since `forget`, or ever.
console() {
    tail -c "+$(cat "/tmp/seen-$1" 2> /dev/null || echo 1)" "$consoles/guest-$1.log" 2> /dev/null
}

# forget NAME: from now on only later output counts.
forget() {
    console_size=$(wc -c < "$consoles/guest-$1.log" 2> /dev/null) || console_size=0
    echo $((console_size + 1)) > "/tmp/seen-$1"
}

said() {
    console "$1" | grep -qF "$2"
}

# wait_for NAME SECONDS WORDS: until the guest prints them. Gives up early when
# the guest has ended without them.
wait_for() {
    deadline=$(($(uptime_ms) + $2 * 1000))
    wait_round=0
    until said "$1" "$3"; do
        [ "$(uptime_ms)" -lt $deadline ] ||
            fail "$1: expected \`$3\` within $2 s, last: $(last_line "$1")"
        # Asking for the state costs more than looking at the console.
        if [ $((wait_round += 1)) -gt 10 ]; then
            wait_round=0
            if ended "$1" && ! eventually 2 said "$1" "$3"; then
                fail "$1: ended without \`$3\`, last: $(last_line "$1")"
            fi
        fi
        sleep 0.2
    done
}

# comes_again NAME SECONDS WORDS: the same for a guest that ends first and is made
# anew, which takes an HVM guest some seconds.
comes_again() {
    eventually "$2" said "$1" "$3" ||
        fail "$1: expected \`$3\` again within $2 s, last: $(last_line "$1")"
}

last_line() {
    console "$1" | tr -d '\r' | grep . | tail -n 1
}

# wait_gone NAME SECONDS: until the domain is destroyed.
wait_gone() {
    eventually "$2" gone "$1" || fail "$1: not gone after $2 s, state $(state "$1")"
}

# wait_crashed NAME SECONDS: until `xl list` shows it as crashed.
wait_crashed() {
    eventually "$2" crashed "$1" || fail "$1: not crashed after $2 s, state $(state "$1")"
}

# The status of the command in a guest that reports on its console.
guest_status() {
    console "$1" | tr -d '\r' | sed -n 's/^guest: exit=//p' | tail -n 1
}

# succeed NAME SECONDS: the guest's command succeeds and the guest powers off.
succeed() {
    start "$1"
    finish "$1" "$2"
}

# finish NAME SECONDS: the same for a guest that runs already.
finish() {
    wait_for "$1" "$2" 'guest: exit='
    finish_status=$(guest_status "$1")
    finish_said=$(console "$1" | tr -d '\r' | grep -B 1 '^guest: exit=' | head -n 1)
    [ "$finish_status" = 0 ] || fail "$1: its command ended with $finish_status: $finish_said"
    wait_gone "$1" 30
}

# type_into NAME TEXT: a line on the guest's console, through the program that
# `xl console` becomes; with no terminal it has to be told that it is used like
# one. What it showed is in $out/log/console-NAME.
type_into() {
    (
        echo "$2"
        sleep 2
    ) | timeout 10 xenconsole "$(xl domid "$1")" --num 0 --type pv --interactive \
        > "$out/log/console-$1" 2>&1
}

stop() {
    timeout 30 xl destroy "$1" 2> /dev/null || true
    wait_gone "$1" 10
}

destroy_all() {
    for guest in $(xl list | awk 'NR > 1 && $1 != "Domain-0" { print $2 }'); do
        timeout 30 xl destroy "$guest"
    done
}
