-- Charges a request to all buckets or to none, as gcra.rs does, and then what is wanted beyond it as far as it goes.
-- An amount of time is two numbers, microseconds and femtoseconds: doubles hold both exactly. Amounts are only added and compared.
-- KEYS: the buckets. ARGV: the time, or nothing for that of the server; milliseconds to keep a bucket once it is full; then
-- for each bucket its burst, the price of the request, how many extras there are, and their prices, each half of the one before.
-- Answers whether the request is admitted and the time; then for each bucket what it was before, and the extras as bits.
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

local place = 2
local function amount()
  place = place + 2
  return tonumber(ARGV[place - 1]), tonumber(ARGV[place])
end

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function read(key)
  local bucket = {key = key, changed = false, extras = 0}
  local whole, part = string.match(redis.call('GET', key) or '', '^(%d+) (%d+)$')
  bucket.whole, bucket.part = tonumber(whole or 0), tonumber(part or 0)
  bucket.empty, bucket.empty_part = sum(now, 0, amount())
  if above(bucket.whole, bucket.part, bucket.empty, bucket.empty_part) then
    bucket.whole, bucket.part, bucket.changed = bucket.empty, bucket.empty_part, true
  end
  bucket.before, bucket.before_part = bucket.whole, bucket.part
  bucket.price, bucket.price_part = amount()
  bucket.extra = {}
  place = place + 1
  for extra = 1, tonumber(ARGV[place]) do
    bucket.extra[extra] = {amount()}
  end
  return bucket
end

-- What the bucket is after the price is paid; nothing if it has not as much.
local function pay(bucket, price, price_part)
  local whole, part = bucket.whole, bucket.part
  if whole < now then
    whole, part = now, 0
  end
  whole, part = sum(whole, part, price, price_part)
  if not above(whole, part, bucket.empty, bucket.empty_part) then
    return whole, part
  end
end

local buckets, admitted = {}, 1
for index, key in ipairs(KEYS) do
  buckets[index] = read(key)
  if not pay(buckets[index], buckets[index].price, buckets[index].price_part) then
    admitted = 0
  end
end

local function charge(bucket, price, price_part)
  local whole, part = pay(bucket, price, price_part)
  if whole then
    bucket.whole, bucket.part, bucket.changed = whole, part, true
  end
  return whole
end

local answer = {admitted, now}
for _, bucket in ipairs(buckets) do
  if admitted == 1 then
    charge(bucket, bucket.price, bucket.price_part)
    for _, extra in ipairs(bucket.extra) do
      bucket.extras = bucket.extras * 2
      if charge(bucket, extra[1], extra[2]) then
        bucket.extras = bucket.extras + 1
      end
    end
  end
  if bucket.changed then
    local life = math.max(math.ceil((bucket.whole - now) / 1000), 0) + 1 + tonumber(ARGV[2])
    redis.call('SET', bucket.key, string.format('%.0f %.0f', bucket.whole, bucket.part), 'PX', string.format('%.0f', life))
  end
  table.insert(answer, bucket.before)
  table.insert(answer, bucket.before_part)
  table.insert(answer, bucket.extras)
end
return answer
