-- Puts back what was charged and not used. KEYS: the buckets. ARGV: the time, or nothing for that of the server; milliseconds
-- to keep a bucket once it is full; then for each bucket an amount of time as two numbers, microseconds and femtoseconds.
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
      local life = math.ceil((whole - now) / 1000) + 1 + tonumber(ARGV[2])
      redis.call('SET', key, string.format('%.0f %.0f', whole, part), 'PX', string.format('%.0f', life))
    end
  end
end
return 0
