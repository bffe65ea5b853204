# Before the examples of a document: what they print goes to one stream, as on a terminal.
exec 2>&1

# An error status fails the example, except where it shows the status with -i.
curl() {
    for argument; do
        if [ "$argument" = -i ]; then
            command curl -sS "$@"
            echo
            return
        fi
    done
    command curl -sS --fail-with-body "$@"
    echo
}

# `keygate dev` and `keygate serve` run until they are stopped: here in the background, on ports of the test, until the next one starts.
keygate() {
    case "$1" in
    dev)
        shift
        start KEYGATE_ADMIN_KEY= dev --gateway-port "$GATEWAY_PORT" --admin-port "$ADMIN_PORT" --metrics-port "$METRICS_PORT" "$@"
        ;;
    serve) start "" "$@" ;;
    *) command keygate "$@" ;;
    esac
}

# Starts a server and waits until it is ready and has printed a text: `start TEXT ARGUMENTS`.
server=
start() {
    printed=$1
    shift
    if [ -n "$server" ]; then
        kill "$server"
        wait "$server" || true
    fi
    KEYGATE_GATEWAY_ADDRESS=127.0.0.1:$GATEWAY_PORT KEYGATE_SERVE_HTTP_PORT=$ADMIN_PORT KEYGATE_SERVE_METRICS_HOST=127.0.0.1 \
        KEYGATE_SERVE_METRICS_PORT=$METRICS_PORT setpriv --pdeathsig KILL keygate "$@" >server.log 2>&1 &
    server=$!
    tries=0
    until command curl -sf "http://127.0.0.1:$METRICS_PORT/health/ready" >ready.log 2>&1 && grep -q "$printed" server.log; do
        tries=$((tries + 1))
        if ! kill -0 "$server" || [ "$tries" -gt 600 ]; then
            cat server.log
            exit 1
        fi
        sleep 0.1
    done
}
