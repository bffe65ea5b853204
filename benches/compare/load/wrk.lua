-- Sends the requests of a file in rotation. Each line of the file has a path and an optional credential, separated by a space.

local requests = {}
-- The index of the last request sent. 0 if none was sent.
local last = 0

-- Reads the file. Its path is the first argument.
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

-- Prints the result as one line of JSON. Its keys are the fields of `Load` in mod.rs.
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
