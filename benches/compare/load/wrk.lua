-- Sends the requests of a file, one after the other and round again. Each line: the path, then the credential, if there is one.

local requests = {}
local last = 0

function init(args)
    for line in io.lines(args[1]) do
        local path, credential = line:match("^(%S+) ?(.*)$")
        local headers = {}
        if credential ~= "" then
            headers["Authorization"] = "Bearer " .. credential
        end
        requests[#requests + 1] = wrk.format("GET", path, headers)
    end
end

function request()
    last = last % #requests + 1
    return requests[last]
end

function done(summary, latency)
    local errors = summary.errors
    print(string.format(
        '{"requests":%d,"micros":%d,"p50_micros":%d,"p99_micros":%d,"refused":%d,"broken":%d}',
        summary.requests,
        summary.duration,
        latency:percentile(50),
        latency:percentile(99),
        errors.status,
        errors.connect + errors.read + errors.write + errors.timeout
    ))
end
