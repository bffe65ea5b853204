-- Refunds charged and unused requests. KEYS: the buckets. ARGV: the time, or an empty string for the server's time; the
-- milliseconds to keep a full bucket; then for each bucket the increment to subtract, as microseconds and femtoseconds.
local MICRO = 1000000000

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

for index, key in ipairs(KEYS) do
  local whole, part = string.match(redis.call('GET', key) or '', '^(%d+) (%d+)$')
  if whole then
    whole = tonumber(whole) - tonumber(ARGV[index * 2 + 1])
    part = tonumber(part) - tonumber(ARGV[index * 2 + 2])
    if part < 0 then
      whole, part = whole - 1, part + MICRO
    end
    if whole < now then
      redis.call('DEL', key)
    else
      local ttl = math.ceil((whole - now) / 1000) + 1 + tonumber(ARGV[2])
      redis.call('SET', key, string.format('%.0f %.0f', whole, part), 'PX', string.format('%.0f', ttl))
    end
  end
end
return 0
