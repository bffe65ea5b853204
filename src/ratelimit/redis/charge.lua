-- Charges a request to all buckets or to none, as gcra.rs does. If it is admitted, takes the wanted leases as far as the buckets
-- allow. A time is two numbers, microseconds and femtoseconds, which doubles represent exactly. Times are only added and compared.
-- KEYS: the buckets. ARGV: the time, or an empty string for the server's time; the milliseconds to keep a full bucket; then for
-- each bucket its burst, the increment of the request, the number of lease increments, and these, each half of the one before.
-- Returns whether the request is admitted and the time; then for each bucket its state before the charge and the leased requests.
local MICRO = 1000000000

local function sum(whole, part, more, more_part)
  if part + more_part >= MICRO then
    return whole + more + 1, part + more_part - MICRO
  end
  return whole + more, part + more_part
end

local function above(whole, part, other, other_part)
  return whole > other or (whole == other and part > other_part)
end

local position = 2
local function next_time()
  position = position + 2
  return tonumber(ARGV[position - 1]), tonumber(ARGV[position])
end

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function read(key)
  local bucket = {key = key, changed = false, leased = 0}
  local whole, part = string.match(redis.call('GET', key) or '', '^(%d+) (%d+)$')
  bucket.whole, bucket.part = tonumber(whole or 0), tonumber(part or 0)
  bucket.empty, bucket.empty_part = sum(now, 0, next_time())
  if above(bucket.whole, bucket.part, bucket.empty, bucket.empty_part) then
    bucket.whole, bucket.part, bucket.changed = bucket.empty, bucket.empty_part, true
  end
  bucket.before, bucket.before_part = bucket.whole, bucket.part
  bucket.increment, bucket.increment_part = next_time()
  bucket.lease_increments = {}
  position = position + 1
  for index = 1, tonumber(ARGV[position]) do
    bucket.lease_increments[index] = {next_time()}
  end
  return bucket
end

-- The bucket after the increment; nil if the bucket does not hold as much.
local function take(bucket, increment, increment_part)
  local whole, part = bucket.whole, bucket.part
  if whole < now then
    whole, part = now, 0
  end
  whole, part = sum(whole, part, increment, increment_part)
  if not above(whole, part, bucket.empty, bucket.empty_part) then
    return whole, part
  end
end

local buckets, admitted = {}, 1
for index, key in ipairs(KEYS) do
  buckets[index] = read(key)
  if not take(buckets[index], buckets[index].increment, buckets[index].increment_part) then
    admitted = 0
  end
end

local function charge(bucket, increment, increment_part)
  local whole, part = take(bucket, increment, increment_part)
  if whole then
    bucket.whole, bucket.part, bucket.changed = whole, part, true
  end
  return whole
end

local reply = {admitted, now}
for _, bucket in ipairs(buckets) do
  if admitted == 1 then
    charge(bucket, bucket.increment, bucket.increment_part)
    for _, increment in ipairs(bucket.lease_increments) do
      bucket.leased = bucket.leased * 2
      if charge(bucket, increment[1], increment[2]) then
        bucket.leased = bucket.leased + 1
      end
    end
  end
  if bucket.changed then
    local ttl = math.max(math.ceil((bucket.whole - now) / 1000), 0) + 1 + tonumber(ARGV[2])
    redis.call('SET', bucket.key, string.format('%.0f %.0f', bucket.whole, bucket.part), 'PX', string.format('%.0f', ttl))
  end
  table.insert(reply, bucket.before)
  table.insert(reply, bucket.before_part)
  table.insert(reply, bucket.leased)
end
return reply
